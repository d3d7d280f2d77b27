"""Errors that name the field, its value and what would be right."""

import os
from collections.abc import Callable
from typing import Any, Optional

from mmengine.dist import all_gather_object, is_main_process


def check(condition: bool, field: str, value: Any, right: str) -> None:
    """Refuse a value.

    Args:
        condition (bool): Whether the value is acceptable.
        field (str): The argument's name.
        value (Any): Its value.
        right (str): What would be acceptable, as it follows "must be".

    Raises:
        ValueError: If ``condition`` is false.
    """
    if not condition:
        raise ValueError(f'{field}={value!r}: must be {right}')


def check_inside(path: str, root: str, field: str) -> None:
    """Refuse a path, read from a file, that leads out of the data.

    Links inside the data may lead anywhere: who made them had the right.

    Args:
        path (str): The path.
        root (str): The folder of the data.
        field (str): What named the path.

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


def attempt(
    work: Callable[[], Any],
) -> tuple[Optional[Exception], dict[int, str]]:
    """Do what may fail in one process alone, and tell all.

    Args:
        work (Callable): In which no process waits for another that failed.

    Returns:
        tuple: The error of this process, or None; and those of all that
        failed, in words, by the number of the process.
    """
    error = None
    try:
        work()
    except Exception as caught:
        error = caught
    words = error and f'{type(error).__name__}: {error}'
    found = enumerate(all_gather_object(words))
    return error, {rank: text for rank, text in found if text is not None}


def together(work: Callable[[], Any], main_only: bool = False) -> None:
    """Do what may fail in one process alone; if it does, all raise.

    Args:
        work (Callable): As for :func:`attempt`.
        main_only (bool): Whether only the main process does it. Defaults to
            False.

    Raises:
        Exception: That of this process.
        OSError: If it was another one's.
    """
    error, errors = attempt(
        work if is_main_process() or not main_only else lambda: None
    )
    if error is not None:
        raise error
    for rank, text in errors.items():
        raise OSError(f'process {rank}: {text}')
