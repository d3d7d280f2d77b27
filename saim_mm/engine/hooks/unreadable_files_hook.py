"""UnreadableFilesHook: a list of the images that cannot be read."""

from __future__ import annotations

from pathlib import Path

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

#: The file in the work_dir.
REPORT = 'unreadable_files.txt'


@HOOKS.register_module()
class UnreadableFilesHook(Hook):
    """Has :class:`~saim_mm.UnlabelledImages` list them in the work_dir."""

    def before_train(self, runner: Runner) -> None:
        """Say where: ``unreadable_files.txt``."""
        dataset = runner.train_dataloader.dataset
        if hasattr(dataset, 'report_to'):
            dataset.report_to(Path(runner.work_dir, REPORT))
