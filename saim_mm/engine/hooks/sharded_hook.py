"""ShardedHook: checkpoints of fully sharded training."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ...checkpoint.sharded import strip_tensors
from ..fsdp import distribute_state_dict, is_sharded


@HOOKS.register_module()
class ShardedHook(Hook):
    """Leaves out of checkpoints, and cuts, what ``fsdp`` shares out."""

    priority = 'LOWEST'

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Leave out the tensors, which each process writes by itself."""
        if is_sharded(runner.model):
            strip_tensors(checkpoint)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Cut whole tensors to the parts of this process."""
        if is_sharded(runner.model):
            optimizer = getattr(runner.optim_wrapper, 'optimizer', None)
            distribute_state_dict(checkpoint, runner.model, optimizer)
