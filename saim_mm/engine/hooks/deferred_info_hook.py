"""DeferredInfoHook: losses reach the log without a wait in each iteration."""

from __future__ import annotations

import sys

from mmengine.hooks import LoggerHook, RuntimeInfoHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..scalars import DeferredScalars

#: Values of a scalar that are kept at least; MMEngine keeps a million, and
#: copies all of them in every iteration.
KEPT = 10_000


@HOOKS.register_module()
class DeferredInfoHook(RuntimeInfoHook):
    """MMEngine's ``RuntimeInfoHook``, which reads losses one iteration later.

    When the log is written, or by :class:`SAIMRunner` a checkpoint, those of
    all iterations have been read; in between the message hub lacks the last
    one's.
    """

    def __init__(self) -> None:
        self.losses = DeferredScalars()
        self.kept = sys.maxsize

    def before_train(self, runner: Runner) -> None:
        self.losses.queue.clear()  # of a failed training
        processor = runner.log_processor
        windows = [processor.window_size] + [
            cfg.get('window_size', 'global') for cfg in processor.custom_cfg
        ]
        self.kept = (
            sys.maxsize
            if 'global' in windows
            else max(
                KEPT,
                len(runner.train_dataloader),
                *(size for size in windows if isinstance(size, int)),
            )
        )
        super().before_train(runner)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Keep the losses; hand on those before, or all if they are logged."""
        if outputs is not None:
            self.losses.put(outputs)
        self.catch_up(runner, keep=0 if is_logged(runner, batch_idx) else 1)
        for log in runner.message_hub.log_scalars.values():
            log.max_length = min(log.max_length, self.kept)

    def after_train_epoch(
        self, runner: Runner, metrics: dict | None = None
    ) -> None:
        self.catch_up(runner)

    def catch_up(self, runner: Runner, keep: int = 0) -> None:
        """Hand on the losses of all iterations but the last ``keep``."""
        for losses, _ in self.losses.take(keep):
            super().after_train_iter(runner, 0, None, losses)


def read_losses(runner: Runner) -> None:
    """Have the message hub hold the losses of this iteration, too."""
    for hook in runner.hooks:
        if isinstance(hook, DeferredInfoHook):
            hook.catch_up(runner)


def is_logged(runner: Runner, batch_idx: int) -> bool:
    """Whether MMEngine's log may be written after this iteration."""
    return any(
        hook.every_n_inner_iters(batch_idx, hook.interval)
        or hook.end_of_epoch(runner.train_dataloader, batch_idx)
        for hook in runner.hooks
        if isinstance(hook, LoggerHook)
    )
