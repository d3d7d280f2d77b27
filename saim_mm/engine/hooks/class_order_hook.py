"""ClassOrderHook: number 3 is the same class wherever it is evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import zip_longest
from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner


@HOOKS.register_module()
class ClassOrderHook(Hook):
    """Refuses to evaluate with classes in another order than trained ones.

    A dataset numbers the classes as its folder, file or config has them, and
    nothing else compares one with the other. Those trained are the training
    data's, or what the checkpoint says. Names of which none is the same are
    taken for other words for them.

    Raises:
        ValueError: If some names are the same and the lists are not.
    """

    priority = 'VERY_HIGH'  # before an epoch, or a checkpoint

    def __init__(self) -> None:
        self.trained: list | None = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        meta = checkpoint.get('meta') or {}
        self.trained = classes_of(meta.get('dataset_meta'))

    def before_train(self, runner: Runner) -> None:
        dataset = runner.train_dataloader.dataset
        self.trained = classes_of(getattr(dataset, 'metainfo', None))
        if runner.val_loop is not None:
            self.before_val(runner)

    def before_val(self, runner: Runner) -> None:
        self.compare(runner.val_dataloader.dataset, 'val_dataloader')

    def before_test(self, runner: Runner) -> None:
        self.compare(runner.test_dataloader.dataset, 'test_dataloader')

    def compare(self, dataset: Any, loader: str) -> None:
        found = classes_of(getattr(dataset, 'metainfo', None))
        trained = self.trained
        if not (found and trained and set(found) & set(trained)):
            return
        pairs = enumerate(zip_longest(found, trained))
        for number, (here, there) in pairs:
            if here != there:
                raise ValueError(
                    f'{loader}.dataset: class {number}={here!r}: must be '
                    f'{there!r}, which it was in training: {len(found)} '
                    f'classes here and {len(trained)} there; list the same in '
                    'the same order, whichever says them: "categories" of the '
                    'files (whose order mmdet keeps), folders, or '
                    'metainfo.classes'
                )


def classes_of(meta: Mapping | None) -> list | None:
    """The names of classes in what a dataset says of itself."""
    names = {str(key).lower(): x for key, x in (meta or {}).items()}
    classes = names.get('classes')
    return list(classes) if isinstance(classes, (list, tuple)) else None
