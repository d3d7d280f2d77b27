"""ProbeHook: what the encoder has learned so far, while it is trained."""

from __future__ import annotations

import time
from contextlib import contextmanager

import torch
from mmengine.dataset import DefaultSampler
from mmengine.dist import all_gather
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import Tensor, nn

from ...datasets.pixels import pixel_format
from ...evaluation.features import extract, image_folder
from ...evaluation.knn import vote
from ...evaluation.rank import rank_me
from ...utils.check import check_arg
from ...utils.dist import run_or_raise_on_all, unwrap_model
from ..fsdp import is_sharded


@HOOKS.register_module()
class ProbeHook(Hook):
    """Reads the frozen encoder out at intervals, on a folder of images.

    Logs, by the class token and by the mean of the patches, ``probe/knn_*``:
    the accuracy in per cent of each image's nearest neighbours among the
    others (k-NN, leave-one-out); and ``probe/rank_me_*``: RankMe, which needs
    no labels. Every backend of the visualiser gets them, and so does the
    message hub. Training is the same to the bit with and without: no random
    number, no gradient and no mode of it is touched. Several processes share
    the images.

    Args:
        data_root: The folder, with a sub-folder for each class.
        interval: Epochs between two looks.
        by_epoch: Whether ``interval`` counts epochs; iterations otherwise.
        labels: Whether sub-folders are classes. Without there is no accuracy.
        max_images: Of more images as many, evenly spaced.
        k: Neighbours that vote.
        batch_size: Images at a time and process.
        num_workers: Loading processes.

    Raises:
        ValueError: If an argument is not as above; before training, if the
            folder holds fewer than two classes, or too few images.
        FileNotFoundError: Before training, if there is no such folder.
    """

    priority = 'LOW'

    def __init__(
        self,
        data_root: str,
        interval: int = 1,
        by_epoch: bool = True,
        labels: bool = True,
        max_images: int = 5000,
        k: int = 20,
        batch_size: int = 128,
        num_workers: int = 0,
    ) -> None:
        for name, value, least in (
            ('interval', interval, 1),
            ('max_images', max_images, 2),
            ('k', k, 1),
            ('batch_size', batch_size, 1),
            ('num_workers', num_workers, 0),
        ):
            check_arg(
                isinstance(value, int)
                and not isinstance(value, bool)
                and value >= least,
                f'ProbeHook.{name}',
                value,
                f'an integer, at least {least}',
            )
        self.data_root = data_root
        self.interval = interval
        self.by_epoch = by_epoch
        self.labels = labels
        self.max_images = max_images
        self.k = k
        self.batch_size = batch_size
        self.num_workers = num_workers

    def before_train(self, runner: Runner) -> None:
        """List the images.

        Raises:
            OSError: If another process cannot.
        """
        check_arg(
            not self.by_epoch
            or isinstance(runner.train_loop, EpochBasedTrainLoop),
            'ProbeHook.by_epoch',
            self.by_epoch,
            'False, because this training counts iterations',
        )
        run_or_raise_on_all(lambda: self.list_images(runner))

    def list_images(self, runner: Runner) -> None:
        backbone = getattr(unwrap_model(runner.model), 'backbone', None)
        size = getattr(backbone, 'img_size', None)
        check_arg(
            size is not None,
            'custom_hooks',
            'ProbeHook',
            'left out: the model has no backbone with an img_size',
        )
        size = (size, size) if isinstance(size, int) else tuple(size)
        self.dataset = image_folder(
            self.data_root,
            size,
            'ProbeHook.data_root',
            self.labels,
            self.max_images,
            pixel_format(runner.cfg),
        )
        number = len(self.dataset)
        check_arg(
            not self.labels or self.k < number,
            'ProbeHook.k',
            self.k,
            f'less than {number}, the images of ProbeHook.data_root='
            f'{self.data_root!r}',
        )

    def after_train_epoch(self, runner: Runner) -> None:
        """Look, if it is time (the epoch's number is still the old one)."""
        if self.by_epoch and self.every_n_epochs(runner, self.interval):
            self.look(runner, runner.iter)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Look, if it is time."""
        if not self.by_epoch and self.every_n_train_iters(
            runner, self.interval
        ):
            self.look(runner, runner.iter + 1)

    def look(self, runner: Runner, step: int) -> None:
        """Measure, and log under a step: how many iterations are done."""
        begin = time.time()
        model = unwrap_model(runner.model)
        with gathered(model):
            # All processes have as many batches: the first images fill up.
            features = extract(
                model,
                self.dataset,
                labels=self.labels,
                tokens=False,
                batch_size=self.batch_size,
                num_workers=self.num_workers,
                # (Without a seed it would draw one.)
                sampler=DefaultSampler(self.dataset, shuffle=False, seed=0),
            )
        labels = self.labels and self.collect(features.labels)
        values = {}
        for name, vectors in features.vectors.items():
            vectors = self.collect(vectors)
            if not vectors.isfinite().all():
                runner.logger.warning(
                    f'ProbeHook: features ({name}) are not finite, so there '
                    'is nothing to measure'
                )
                continue
            if self.labels:
                votes = vote(
                    vectors,
                    vectors,
                    labels,
                    len(self.dataset.CLASSES),
                    self.k,
                    leave_one_out=True,
                )
                right = votes.argmax(dim=1) == labels.to(votes.device)
                values[f'probe/knn_{name}'] = (
                    100 * right.double().mean().item()
                )
            values[f'probe/rank_me_{name}'] = rank_me(vectors)
        for name, value in values.items():
            runner.message_hub.update_scalar(name, value)
        runner.visualizer.add_scalars(values, step=step)
        runner.logger.info(
            f'Probed with {len(self.dataset)} images in '
            f'{time.time() - begin:.1f} s: '
            + ', '.join(
                f'{name} {value:.2f}' for name, value in values.items()
            )
        )

    def collect(self, part: Tensor) -> Tensor:
        """What all processes have, in the order of the images."""
        parts = all_gather(part)
        return torch.stack(parts, dim=1).flatten(0, 1)[: len(self.dataset)]


@contextmanager
def gathered(model: nn.Module):
    """With ``fsdp`` the weights that are in no block, gathered."""
    if not is_sharded(model):
        yield
        return
    model.unshard()
    try:
        yield
    finally:
        model.reshard()
