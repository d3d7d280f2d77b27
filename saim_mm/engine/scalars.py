"""DeferredScalars: losses that are read without a wait for the GPU."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import torch


class DeferredScalars:
    """Scalars of iterations, read while the next iteration is under way.

    ``Tensor.item`` waits until the GPU has done all that it was given, and
    then the GPU waits for the next iteration's kernels. Here the copy to the
    host is one of those kernels, and is read when it has long arrived.
    """

    def __init__(self) -> None:
        self.queue: deque[tuple[dict, Any, Any]] = deque()

    def put(self, scalars: dict[str, Any], note: Any = None) -> None:
        """Keep the scalars of an iteration.

        Args:
            scalars: Tensors of one element each; what is no tensor stays as
                it is.
            note: Returned with them.
        """
        scalars = {
            name: value.detach() if isinstance(value, torch.Tensor) else value
            for name, value in scalars.items()
        }
        event = None
        if any(is_on_gpu(value) for value in scalars.values()):
            # PyTorch pins the memory that such copies go to.
            scalars = {
                name: value.to('cpu', non_blocking=True)
                if is_on_gpu(value)
                else value
                for name, value in scalars.items()
            }
            event = torch.cuda.Event()
            event.record()
        self.queue.append((scalars, note, event))

    def take(self, keep: int = 0) -> Iterator[tuple[dict[str, Any], Any]]:
        """Those of all iterations but the last.

        Args:
            keep: How many of the last are left. 0: this waits for them.

        Returns:
            Scalars as numbers, and the note, the oldest first.
        """
        while len(self.queue) > keep:
            scalars, note, event = self.queue.popleft()
            if event is not None:
                event.synchronize()
            yield (
                {
                    name: value.item()
                    if isinstance(value, torch.Tensor)
                    else value
                    for name, value in scalars.items()
                },
                note,
            )


def is_on_gpu(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_cuda
