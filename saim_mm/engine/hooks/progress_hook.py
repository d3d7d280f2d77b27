"""ProgressHook: how far training is, in images."""

from __future__ import annotations

from itertools import chain, repeat
from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from ...datasets.sampler import ReproducibleSampler
from ...utils.check import check_arg
from ..schedules import replay_schedules


@HOOKS.register_module()
class ProgressHook(Hook):
    """Goes on at the image at which a checkpoint was saved, in every loop.

    The number of images stands in :class:`~saim_mm.ReproducibleSampler`'s
    state, and under ``progress`` in checkpoints; with it how many an iteration
    took, and how many iterations an epoch. If these are others now, iterations
    and schedules go on at the same part of the epochs. Other samplers cannot
    begin within an epoch: it is trained anew.
    """

    priority = 'HIGHEST'

    def __init__(self) -> None:
        self.loaded: dict[str, int] = {}

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Write down how far training is."""
        loader = runner.train_dataloader
        checkpoint['progress'] = dict(
            epoch_length=len(loader), images_per_step=images_per_step(runner)
        )
        if isinstance(loader.sampler, ReproducibleSampler):
            checkpoint['progress'].update(
                loader.sampler.state_dict(),
                infinite=int(loader.sampler.infinite),
            )

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep what it says, if training goes on from it."""
        self.loaded = checkpoint.get('progress') or {}

    def before_train(self, runner: Runner) -> None:
        """Begin where the checkpoint was saved.

        Raises:
            ValueError: If it is of another kind of loop, or of a larger data
                set, whose epochs do not end where these do.
            RuntimeError: If epochs have another length now, and a schedule
                cannot follow.
        """
        if runner.iter == 0:  # it gave weights, at most
            return
        images = images_per_step(runner)
        before = self.loaded.get('images_per_step', images)
        if before != images:
            runner.logger.warning(
                f'A step now has {images} images; before, it had {before}. '
                'The learning rate is not scaled by that'
            )
        loop, sampler = runner.train_loop, runner.train_dataloader.sampler
        goes_on = 'consumed_samples' in self.loaded and isinstance(
            sampler, ReproducibleSampler
        )
        if goes_on:
            check_same_training(sampler, self.loaded)
            size = self.loaded.get('size', sampler.size)
            if size != sampler.size:
                runner.logger.warning(
                    f'There are {sampler.size} images now; before, there were '
                    f'{size}. The order is another one: of this pass some '
                    'come twice, and some not at all'
                )
            sampler.set_epoch(runner.epoch)
            sampler.load_state_dict(self.loaded)
        if isinstance(loop, EpochBasedTrainLoop):
            self._fit_epoch(runner)
        elif isinstance(loop, IterBasedTrainLoop) and goes_on:
            skips = not getattr(loop, 'fast_forward_on_resume', False)
            loop.dataloader_iterator = AdvancedIterator(
                runner.train_dataloader, loop.iter * skips
            )

    def _fit_epoch(self, runner: Runner) -> None:
        """Count iterations as if all epochs had had the length of now."""
        loop, loader = runner.train_loop, runner.train_dataloader
        length = len(loader)
        done = length - batches_left(loader)
        begin = loop.epoch * length + done
        if done:
            run_iter = loop.run_iter  # which counts from 0

            def run_iter_from(idx: int, data_batch: Any) -> None:
                run_iter(idx + done, data_batch)

            loop.run_iter = run_iter_from
        before = self.loaded.get('epoch_length', length)
        if before != length:
            why = (
                f'an epoch now has {length} iterations; before, it had '
                f'{before}'
            )
        elif begin != loop.iter:
            why = (
                f'epoch {loop.epoch + 1} begins anew, as '
                f'{type(loader.sampler).__name__} cannot go on within one'
            )
        else:
            return
        loop._iter = begin
        replay_schedules(runner, why)
        runner.optim_wrapper.initialize_count_status(
            runner.model, loop.iter, loop.max_iters
        )
        runner.logger.warning(
            f'{why[0].upper()}{why[1:]}. Iterations are counted by that: this '
            f'is {begin}, and the learning rate goes on at the same part of '
            'the epochs'
        )

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict | None = None,
    ) -> None:
        """Count the images."""
        loader = runner.train_dataloader
        if isinstance(loader.sampler, ReproducibleSampler):
            loader.sampler.consumed_samples += (
                batch_size_of(loader) * runner.world_size
            )

    def after_train_epoch(self, runner: Runner) -> None:
        """What is saved from now on goes on with the next epoch."""
        runner.train_loop.__dict__.pop('run_iter', None)
        sampler = runner.train_dataloader.sampler
        if isinstance(sampler, ReproducibleSampler):
            sampler.set_epoch(runner.epoch + 1)


class AdvancedIterator:
    """The batches of a loader whose sampler is in its place already.

    MMEngine's loop by iterations leaves out what was trained by itself: it
    skips, or fetches, as many batches as there were iterations.

    Args:
        loader: Endless.
        skip: How many batches MMEngine will leave out.
    """

    def __init__(self, loader: DataLoader, skip: int) -> None:
        self._iterator = chain(repeat(None, skip), loader)

    def __next__(self) -> Any:
        return next(self._iterator)

    def skip_iter(self, num_iters: int) -> None:
        for _ in range(num_iters):
            next(self)


def check_same_training(
    sampler: ReproducibleSampler, progress: dict[str, int]
) -> None:
    """Refuse what a sampler cannot go on from.

    Args:
        sampler: Of the training that begins.
        progress: Of the checkpoint.

    Raises:
        ValueError: If its images were counted in another way, or are beyond
            the end of an epoch.
    """
    consumed, kinds = progress['consumed_samples'], ('epochs', 'iterations')
    begin_with = 'to begin with its weights, set load_from, without --resume'
    before = progress.get('infinite', sampler.infinite)
    check_arg(
        before == sampler.infinite,
        'train_dataloader.sampler.infinite',
        sampler.infinite,
        f'{bool(before)}, as the checkpoint is of a training by '
        f'{kinds[bool(before)]} (train_cfg.type); {begin_with}',
    )
    # The last step may be of more images than were left for it.
    rounded = sampler.size + 2 * progress.get('images_per_step', 0)
    check_arg(
        sampler.infinite or consumed <= rounded,
        'train_dataloader.dataset',
        f'{sampler.size} images',
        f'that of the checkpoint, which has seen {consumed} of an epoch; '
        f'{begin_with}',
    )


def batch_size_of(loader: DataLoader) -> int:
    """The images of a batch of one process.

    Args:
        loader: It has no ``batch_size`` if it was given a ``batch_sampler``.
    """
    return loader.batch_size or loader.batch_sampler.batch_size


def images_per_step(runner: Runner) -> int:
    """Of all processes, and of all iterations of a step."""
    counts = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
    return batch_size_of(runner.train_dataloader) * runner.world_size * counts


def batches_left(loader: DataLoader) -> int:
    """How many batches of an epoch are left to train."""
    sampler = loader.sampler
    if getattr(sampler, 'consumed_samples', 0) == 0:
        return len(loader)
    whole, rest = divmod(sampler.samples_left, batch_size_of(loader))
    return whole + (rest > 0 and not loader.drop_last)
