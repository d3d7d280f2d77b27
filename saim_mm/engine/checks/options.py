"""Options of a command, put into a config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from ...utils.check import ConfigError


def merge_options(cfg: Config, options: Mapping[str, Any]) -> None:
    """Put options into a config, as ``--cfg-options`` does.

    Args:
        options: Fields by their names, such as ``param_scheduler.0.end``.

    Raises:
        ConfigError: If one does not fit what is there, as an index of a list.
    """
    try:
        cfg.merge_from_dict(dict(options))
    except (AttributeError, KeyError, TypeError) as error:
        given = ' '.join(f'{key}={value!r}' for key, value in options.items())
        reason = error.args[0] if error.args else error
        raise ConfigError(
            f'{given}: must name fields of the config, as they are nested in '
            f'it: {reason}'
        ) from error
