"""PlainStateHook: what a training writes of itself."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ...checkpoint.plain import restore_logs, to_plain


@HOOKS.register_module()
class PlainStateHook(Hook):
    """Saves MMEngine's logs as numbers, and gives them back to it.

    And the config, when nothing is left that might refuse to train.
    """

    priority = 'LOWEST'

    def before_train(self, runner: Runner) -> None:
        """Write the config into the ``work_dir``."""
        Runner.dump_config(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Make all of it plain, also what other hooks put in."""
        to_plain(checkpoint)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Make logs of the numbers again."""
        restore_logs(checkpoint)
