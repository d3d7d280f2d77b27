"""ThroughputHook: how fast training is."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner


@HOOKS.register_module()
class ThroughputHook(Hook):
    """Logs how fast training is, beside MMEngine's ``time``.

    ``images_per_second`` are those of all processes, ``utilization`` the share
    of the time in which this one did not wait for its data; both over as many
    iterations as the log's means. (Of these two the log takes the last value:
    it averages losses and times only.) Without ``IterTimerHook`` there are
    none.
    """

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Log both.

        (Images are counted by ``data_samples``: ``inputs`` may be views, of
        each image several.)
        """
        hub = runner.message_hub
        if not {'train/time', 'train/data_time'} <= hub.log_scalars.keys():
            return
        seconds, waiting = (
            hub.get_scalar(f'train/{name}').mean(
                runner.log_processor.window_size
            )
            for name in ('time', 'data_time')
        )
        images = len(data_batch['data_samples']) * runner.world_size
        hub.update_scalar('train/images_per_second', images / seconds)
        hub.update_scalar('train/utilization', 1 - waiting / seconds)
