"""Processes that live, fail and end together."""

from __future__ import annotations

import ctypes
import signal
import sys
from collections.abc import Callable
from typing import Any

from mmengine.dist import all_gather_object, is_main_process
from mmengine.model import is_model_wrapper


def gather_errors(
    work: Callable[[], Any],
) -> tuple[Exception | None, dict[int, str]]:
    """Do what may fail in one process alone, and tell all.

    Args:
        work: In which no process waits for another that failed.

    Returns:
        The error of this process, or None; and those of all that
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


def run_or_raise_on_all(
    work: Callable[[], Any], main_only: bool = False
) -> None:
    """Do what may fail in one process alone; if it does, all raise.

    Args:
        work: As for :func:`gather_errors`.
        main_only: Whether only the main process does it.

    Raises:
        Exception: That of this process.
        OSError: If it was another one's.
    """
    error, errors = gather_errors(
        work if is_main_process() or not main_only else lambda: None
    )
    if error is not None:
        raise error
    for rank, text in errors.items():
        raise OSError(f'process {rank}: {text}')


def end_with_parent() -> None:
    """Let the kernel kill this process when that which started it ends.

    On Linux; elsewhere nothing happens.
    """
    if sys.platform == 'linux':
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def unwrap_model(model: Any) -> Any:
    """The model, out of the wrapper of distributed training."""
    return model.module if is_model_wrapper(model) else model
