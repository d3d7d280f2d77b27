"""PlainStateHook: checkpoints of plain data and tensors."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ...checkpoint.plain import restore_logs, to_plain


@HOOKS.register_module()
class PlainStateHook(Hook):
    """Saves MMEngine's logs as numbers, and gives them back to it."""

    priority = 'LOWEST'

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Make all of it plain, also what other hooks put in."""
        to_plain(checkpoint)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Make logs of the numbers again."""
        restore_logs(checkpoint)
