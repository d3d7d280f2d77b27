"""Whether a checkpoint has the heads that a config asks for.

MMEngine drops a head of another size with a line in the log, and the model
then predicts by random weights. A checkpoint contains the text of its config;
that is read here, and not executed, for the numbers of classes.
"""

from __future__ import annotations

import ast
import copy
import io
import keyword
import tokenize
from collections.abc import Container
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.model import BaseTTAModel
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from .loader import load_from_local
from .weights import load_renamed_state_dict, load_weights

CLASSES = 'num_classes'

MAX_LENGTH = 2**20

#: The tokens of a text of dicts, lists and constants.
KINDS = {
    *('ENCODING', 'ENDMARKER', 'NEWLINE', 'NL', 'INDENT', 'DEDENT', 'COMMENT'),
    *('NAME', 'NUMBER', 'STRING', 'OP'),
}
OPENING, CLOSING = set('([{'), set(')]}')
OPERATORS = {*OPENING, *CLOSING, *',=:-'}


def read_literals(text: str) -> dict[str, Any]:
    """Read the assignments of a config's text, without executing it.

    Args:
        text: As ``Config.pretty_text``: dicts, lists and constants.

    Returns:
        By name. None stands for what is none of these.

    Raises:
        ValueError: If it is a program rather.
    """
    before = ''
    try:
        if len(text) > MAX_LENGTH:
            raise ValueError(f'a config of {len(text)} characters')
        # What could overflow the parser, or is no constant, has other tokens.
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            word = token.string
            kind = tokenize.tok_name[token.type]
            if (
                kind not in KINDS
                or (kind == 'OP' and word not in OPERATORS)
                or (kind == 'STRING' and word[0] not in '\'"rb')
                or (kind == 'NAME' and keyword.iskeyword(word))
                and word not in ('None', 'True', 'False')
                or word == before == '-'
                or (word in OPENING and before in CLOSING)
            ):
                raise ValueError(f'{word!r:.20} in a config')
            before = word
        statements = ast.parse(text).body
        return {
            statement.targets[0].id: _value(statement.value)
            for statement in statements
            if isinstance(statement, ast.Assign)
            and isinstance(statement.targets[0], ast.Name)
        }
    except (SyntaxError, tokenize.TokenError, RecursionError) as error:
        raise ValueError(f'not the text of a config ({error})') from error


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(part) for part in node.elts]
    if isinstance(node, ast.Dict):
        return {
            key.value: _value(value)
            for key, value in zip(node.keys, node.values)
            if isinstance(key, ast.Constant)
        }
    if isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'dict':
        return {word.arg: _value(word.value) for word in node.keywords}
    if isinstance(node, ast.UnaryOp):
        number = _value(node.operand)
        return -number if isinstance(number, (int, float)) else None
    return None


def class_counts(config: Any, path: str = 'model') -> dict[str, int]:
    """The numbers of classes in a config.

    Args:
        config: Of a model, or a part of it.
        path: Its place.

    Returns:
        By their places, as ``--cfg-options`` take them.
    """
    counts = {}
    parts = (
        config.items()
        if isinstance(config, dict)
        else enumerate(config)
        if isinstance(config, (list, tuple))
        else ()
    )
    for key, value in parts:
        place = f'{path}.{key}'
        if key == CLASSES and type(value) is int:
            counts[place] = value
        else:
            counts |= class_counts(value, place)
    return counts


def other_class_counts(cfg: Config, filename: str | Path) -> dict[str, int]:
    """What a checkpoint's own config says other than a config.

    Returns:
        dict[str, int]: As :func:`class_counts`, of places that both have.
    """
    checkpoint = load_from_local(filename)
    meta = checkpoint.get('meta') if isinstance(checkpoint, dict) else None
    try:
        text = (meta or {}).get('config_text') or ''
        theirs = class_counts(_without_tta(read_literals(text))[0])
    except ValueError:
        return {}
    model, place = _without_tta(cfg)
    ours = class_counts(model, place)
    theirs = {place + k.removeprefix('model'): n for k, n in theirs.items()}
    return {k: n for k, n in theirs.items() if ours.get(k, n) != n}


def _without_tta(config: dict) -> tuple[Any, str]:
    """A config's model, without what tests it in several scales; its place."""
    model = config.get('model') or {}
    if 'module' in model:
        return model['module'], 'model.module'
    return model, 'model'


def check_heads(
    cfg: Config, filename: str | Path, model: nn.Module | None = None
) -> None:
    """Refuse a checkpoint that lacks weights which a config's model has.

    Args:
        cfg: With ``model`` and ``default_scope``.
        model: That of the config, into which the weights are loaded. Defaults
            to None: one is built.

    Raises:
        ValueError: If some are missing or of another size, with the
            options that the checkpoint's own config says.
    """
    config, place = _without_tta(cfg)
    if model is None:
        init_default_scope(cfg.get('default_scope', 'mmpretrain'))
        parts = copy.deepcopy(config)
        parts.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
        model = MODELS.build(parts)
    elif isinstance(model, BaseTTAModel):
        model = model.module
    try:
        load_weights(
            model,
            load_renamed_state_dict(filename),
            f'checkpoint={str(filename)!r}',
            allow_extra=True,
        )
    except ValueError as error:
        others = other_class_counts(cfg, filename)
        options = ' '.join(f'{k}={v}' for k, v in others.items())
        raise ValueError(
            f'{error}. The config has {class_counts(config, place)}'
            + (
                f'; that of the checkpoint says: --cfg-options {options}'
                if others
                else '; give the config that it was trained with'
            )
        ) from error


def fit_heads(
    cfg: Config, filename: str | Path, given: Container[str] = ()
) -> dict[str, int]:
    """Give a config the numbers of classes that a checkpoint has.

    Args:
        cfg: Changed in place.
        given: Places that stay as they are. Defaults to none.

    Returns:
        What was changed, as :func:`class_counts`.

    Raises:
        OSError: If the checkpoint cannot be read.
        ValueError: If the model does not fit it all the same, as
            :func:`check_heads`.
    """
    others = other_class_counts(cfg, filename)
    others = {k: n for k, n in others.items() if k not in given}
    cfg.merge_from_dict(others)
    check_heads(cfg, filename)
    return others
