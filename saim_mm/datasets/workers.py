"""Loading processes that do not outlive, or end before, their training."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import Optional

import torch
import torch.distributed


def worker_init_fn(
    init: Optional[Callable], finished: torch.Tensor, worker: int
) -> None:
    """Start a loading process, which does not stop before its parent does.

    Args:
        init (Callable, optional): What is called beside.
        finished (Tensor): Shared; not 0 when the parent ends, which then sends
            SIGTERM and waits.
        worker (int): Its number.
    """

    def stop_if_finished(*_) -> None:
        if finished.item():
            os._exit(0)

    if sys.platform == 'linux':
        # PR_SET_PDEATHSIG: or it would outlive a parent that is killed, if
        # the pipe to it is full.
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    signal.signal(signal.SIGTERM, stop_if_finished)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    if init is not None:
        init(worker)
