"""Loading processes that do not outlive, or end before, their training."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import resource_sharer
from multiprocessing.util import Finalize
from typing import Any

import torch
from mmengine.runner import BaseLoop, Runner
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
    loader.worker_init_fn = partial(
        worker_init_fn, loader.worker_init_fn, finished_flag(os.getpid())
    )
    return loader


@functools.cache
def finished_flag(pid: int) -> torch.Tensor:
    """A number in shared memory, not 0 when this process ends.

    Args:
        pid: Of this process: a forked one has a flag of its own.
    """
    finished = torch.zeros(1).share_memory_()
    # (In processes of multiprocessing nothing of atexit is called.)
    Finalize(None, finished.fill_, (1,), exitpriority=100)
    return finished


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
def ended_with_loop(runner: Runner) -> Iterator[None]:
    """End loading processes when the loops of a runner do.

    Else they end when the runner is garbage: it is a circle, in which Python
    closes their queues first, and then waits ten seconds for each.
    """
    try:
        yield
    finally:
        for name in ('_train_loop', '_val_loop', '_test_loop'):
            loop = getattr(runner, name)
            if isinstance(loop, BaseLoop):
                loop.dataloader._iterator = None
                if hasattr(loop, 'dataloader_iterator'):
                    # Another training begins with the next batches.
                    loop.dataloader_iterator._iterator = iter(())


class LoadingProcessDied(RuntimeError):
    """A process of a dataloader ended before its training did."""


@contextlib.contextmanager
def explain_dead_processes(
    get_dataset: Callable[[], Any] = lambda: None,
) -> Iterator[None]:
    """If a loading process dies, say which, of what, and what would help.

    PyTorch raises wherever the training is at that moment, in the middle of
    what may raise an error of its own for that.

    Args:
        get_dataset: Returns the dataset of the training.

    Raises:
        LoadingProcessDied: With what PyTorch said of the process, its signal
            among it, and with the files that were being read.
    """
    try:
        yield
    except LoadingProcessDied:
        raise
    except Exception as error:
        said = said_of_death(error)
        if not said:
            raise
        text = f'a loading process died: {said}. '
        read = getattr(get_dataset(), 'files_in_flight', list)()
        if read:
            text += (
                f'What loading processes were reading: {read}; if it always '
                'dies there, remove or mend that file. '
            )
        raise LoadingProcessDied(
            f'{text}If memory ran out (Killed), set fewer num_workers in the '
            'dataloader; if shared memory did (Bus error), do that, or give '
            '/dev/shm more (docker run --shm-size=8g); num_workers=0 shows an '
            'error of its own'
        ) from error


def said_of_death(error: BaseException) -> str:
    """What PyTorch says of a loading process that died; nothing if none."""
    found = list(causes(error))
    handed_over = any(
        frame.f_globals.get('__name__') == resource_sharer.__name__
        for e in found
        for frame, _ in traceback.walk_tb(e.__traceback__)
    )
    if handed_over:
        # It died with a batch to hand over. The signal may not be here yet.
        try:
            time.sleep(1)
        except RuntimeError as late:
            found = list(causes(late))
    said = [
        str(e).strip().rstrip('.')
        for e in found
        # (Of an error in one it says "in DataLoader worker process".)
        if str(e).startswith('DataLoader worker (pid')
    ]
    if said:
        return said[-1]  # the first that was raised: it knows the signal
    return f'before its batch was here ({error!r})' if handed_over else ''


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error, and those that it was raised for or while handling."""
    seen: list[BaseException] = []
    found: BaseException | None = error
    while found is not None and found not in seen:
        seen.append(found)
        yield found
        found = found.__cause__ or found.__context__
