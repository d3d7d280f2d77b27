"""Errors that name the field, its value and what would be right."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any, NoReturn


class ConfigError(ValueError):
    """A config has a field that cannot be: named with value and remedy."""


def end_with(error: BaseException) -> NoReturn:
    """End this process; the last line on the screen says what was wrong."""
    print(f'error: {error}', file=sys.stderr)
    raise SystemExit(1)


def check_arg(condition: bool, field: str, value: Any, right: str) -> None:
    """Refuse a value.

    Args:
        condition: Whether the value is acceptable.
        field: The argument's name.
        value: Its value.
        right: What would be acceptable, as it follows "must be".

    Raises:
        ValueError: If ``condition`` is false.
    """
    if not condition:
        raise ValueError(f'{field}={value!r}: must be {right}')


def check_choice(field: str, value: Any, choices: Iterable) -> None:
    """Refuse a value that is none of some, as :func:`check_arg`."""
    choices = list(choices)
    check_arg(value in choices, field, value, f'one of {choices}')


def check_positive_int(field: str, value: Any) -> None:
    """Refuse what is no integer from 1, as :func:`check_arg`."""
    good = isinstance(value, int) and not isinstance(value, bool) and value > 0
    check_arg(good, field, value, 'a positive integer')


def check_share(field: str, value: Any) -> None:
    """Refuse what is no number above 0 and up to 1, as :func:`check_arg`."""
    good = isinstance(value, (int, float)) and 0 < value <= 1
    check_arg(good, field, value, 'a share, more than 0 and at most 1')


def check_shape(
    part: str, values: Any, *shapes: tuple[int, ...], meaning: str
) -> None:
    """Refuse what is no tensor of one of some shapes.

    Args:
        part: What returned it.
        values: What it returned.
        *shapes: What would be acceptable.
        meaning: Of the shapes.

    Raises:
        ValueError: If it has another shape.
    """
    shape = getattr(values, 'shape', None)
    shape = type(values).__name__ if shape is None else tuple(shape)
    right = f'{" or ".join(map(str, shapes))}: {meaning}'
    check_arg(shape in shapes, f'{part}: shape', shape, right)


def check_within_root(path: str, root: str, field: str) -> None:
    """Refuse a path, read from a file, that leads out of the data.

    Links inside the data may lead anywhere: who made them had the right.

    Args:
        root: The folder of the data.
        field: What named the path.

    Raises:
        ValueError: If it leads out of the folder.
    """
    path, root = os.path.normpath(path), os.path.normpath(root)
    if os.path.commonpath([os.path.abspath(p) for p in (path, root)]) != (
        os.path.abspath(root)
    ):
        raise ValueError(
            f'{field} names {path!r}: must be within {root!r}, the folder of '
            'the data; correct the file, if it is yours'
        )
