"""ConfigHook: the config of a training, in its folder."""

from __future__ import annotations

from pathlib import Path

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner


@HOOKS.register_module()
class ConfigHook(Hook):
    """Writes the config, when nothing is left that might refuse to train.

    MMEngine's runner would write it when it is built, over that of another
    training, and to test, too.
    """

    priority = 'LOWEST'

    def before_train(self, runner: Runner) -> None:
        """Write it into the ``work_dir``, but not over the file it is of."""
        file = runner.cfg.filename
        place = Path(runner.work_dir).resolve()
        if file and Path(file).resolve().parent == place:
            return
        Runner.dump_config(runner)
