"""Loading processes that do not outlive, or end before, their training."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.util import Finalize

import torch
from torch.utils.data import DataLoader

from ..utils.dist import end_with_parent


def leave_signals_to_parent(loader: DataLoader) -> DataLoader:
    """Have the processes of a loader leave signals to the one that trains.

    Clusters send SIGTERM to every process; without its loading processes the
    training could not save what it has.

    Args:
        loader: Whose processes have not started. Changed.

    Returns:
        The same.
    """
    finished = torch.zeros(1).share_memory_()
    # (In processes of multiprocessing nothing of atexit is called.)
    Finalize(None, finished.fill_, (1,), exitpriority=100)
    loader.worker_init_fn = partial(
        worker_init_fn, loader.worker_init_fn, finished
    )
    return loader


def worker_init_fn(
    init: Callable | None, finished: torch.Tensor, worker: int
) -> None:
    """Start a loading process, which does not stop before its parent does.

    Args:
        init: What is called beside.
        finished: Shared; not 0 when the parent ends, which then sends SIGTERM
            and waits.
        worker: Its number.
    """

    def stop_if_finished(*_) -> None:
        if finished.item():
            os._exit(0)

    end_with_parent()  # even if the pipe to it is full
    signal.signal(signal.SIGTERM, stop_if_finished)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    if init is not None:
        init(worker)


@contextlib.contextmanager
def name_files_in_flight(get_dataset: Callable) -> Iterator[None]:
    """While a training runs: if a loading process dies, say what it read.

    Args:
        get_dataset: Returns the dataset.

    Raises:
        RuntimeError: PyTorch's, with the files that were being read.
    """
    try:
        yield
    except RuntimeError as error:
        if 'DataLoader worker' not in str(error):
            raise
        read = getattr(get_dataset(), 'files_in_flight', list)()
        raise RuntimeError(
            f'{str(error).strip()} What loading processes were reading: '
            f'{read or "unknown"}. One of these may be the cause; or memory '
            '(fewer train_dataloader.num_workers)'
        ) from error
