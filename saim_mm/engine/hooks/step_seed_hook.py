"""StepSeedHook: a seed for every training step."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ...models.saim import SAIM
from ...utils.dist import unwrap_model
from ...utils.seed import seed_everything


@HOOKS.register_module()
class StepSeedHook(Hook):
    """Seeds every training step by the seed and the iteration.

    Processes get seeds of their own; in pre-training the same, because
    :meth:`~saim_mm.SAIM.sample_order` draws for the images of all of them.
    """

    priority = 'VERY_HIGH'

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        """Seed Python, NumPy and PyTorch."""
        rank = (
            0 if isinstance(unwrap_model(runner.model), SAIM) else runner.rank
        )
        # The 1 keeps it from the keys of draws, which zeros fill up.
        seed_everything(runner.seed, runner.iter, rank, 1)
