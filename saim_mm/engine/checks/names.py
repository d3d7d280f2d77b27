"""The names at the top of a config: fields, and variables that make fields."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from .fields import TOP, VARIABLES
from .schema import is_misspelled, nearest
from .values import refuse

UNDERSCORE = 'A variable of your own starts with an underscore'


def check_names(cfg: Mapping) -> None:
    """Refuse names at the top of a config that nothing reads.

    A config file is a program, whose variables all stay in the config:
    ``train_pipeline`` is one from which ``train_dataloader`` is made. To set
    one afterwards changes nothing.

    Args:
        cfg: The config; a Config knows its file.

    Raises:
        ConfigError: If a name looks like a misspelled field, or if a variable
            is set where no field can follow.
    """
    known = read_by_runner(cfg)
    free = {
        name: value
        for name, value in cfg.items()
        if name not in known and not name.startswith('_')
    }
    read, overrides = names_of_file(cfg)
    fields = {n: v for n, v in cfg.items() if n in known}
    for name, value in free.items():
        if name not in {*VARIABLES, *read} and is_misspelled(name, TOP):
            refuse(
                name,
                value,
                f'nothing reads it; did you mean {nearest(name, TOP)!r}? '
                + UNDERSCORE,
            )
    unused = {
        name
        for name, value in free.items()
        # To set a variable to None says that it is not used.
        if value is not None and field_of(value, fields) is None
    }
    before = values_of_file(cfg) if free else None
    before = free if before is None else before
    for name, value in free.items():
        changed = before.get(name, ...) != value
        if name not in before or (
            name in unused and (changed or name in overrides)
        ):
            same = [
                path
                for path, _ in paths_of(fields)
                if path.rpartition('.')[2] == name
            ]
            if name not in before and name not in VARIABLES:
                refuse(
                    name,
                    value,
                    'there is no such field'
                    + (f'; did you mean {same[0]!r}?' if same else '.')
                    + f' {UNDERSCORE}',
                )
            field = field_of(before.get(name), fields)
            refuse(
                name,
                value,
                'nothing reads it now: it is a variable, of which fields were '
                f'made. Set these, such as '
                f'{field or "train_dataloader.dataset"}. {UNDERSCORE}',
            )


def read_by_runner(cfg: Mapping) -> set[str]:
    """The names at the top of a config that are no variables."""
    model = cfg.get('model') or {}
    if model.get('data_preprocessor') is None:
        return set(TOP)
    return set(TOP) - {'data_preprocessor'}  # the model's own counts


def names_of_file(cfg: Mapping) -> tuple[set[str], set[str]]:
    """Names that a config's file reads, and those that it sets in vain.

    Returns:
        Of the second kind are variables that a
        file of ``_base_`` sets, too, and this one never reads.
    """
    path = getattr(cfg, 'filename', None)
    if not path or not str(path).endswith('.py') or not Path(path).is_file():
        return set(), set()
    tree = ast.parse(Path(path).read_text(encoding='utf-8'))
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    written = {n.id for n in names if isinstance(n.ctx, ast.Store)}
    read = {n.id for n in names if isinstance(n.ctx, ast.Load)}
    set_in = Counter(re.findall(r'^(\w+) *=', cfg.text, re.MULTILINE))
    return read, {n for n in written - read if set_in[n] > 1}


def values_of_file(cfg: Mapping) -> dict | None:
    """The config as its file has it; None if that cannot be told."""
    path = getattr(cfg, 'filename', None)
    try:
        return dict(Config.fromfile(path)._cfg_dict) if path else None
    except Exception:  # it was moved, or its imports were
        return None


def field_of(value: Any, fields: Mapping) -> str | None:
    """The field that a variable was made into, if any is to be found.

    Of what is everywhere, as numbers are, nothing can be told.
    """
    if isinstance(value, (bool, int, float, type(None))) or value in ('', ()):
        return None
    for path, other in paths_of(fields):
        if other == value or (
            isinstance(value, Mapping)
            and isinstance(other, Mapping)
            and all(other.get(key, ...) == v for key, v in value.items())
        ):
            return path
    return None


def paths_of(value: Any, path: str = '') -> Iterator[tuple[str, Any]]:
    """Everything in a value, as --cfg-options names it."""
    items = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    for key, v in items:
        yield f'{path}{key}', v
        yield from paths_of(v, f'{path}{key}.')
