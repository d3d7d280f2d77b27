"""What is the same in all recipes: steps, checkpoints, options of the user."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..utils.check import check_arg, check_positive_int
from .checks.options import merge_options

#: Fields that others follow from, and what sets them.
ARGUMENTS = {
    'train_cfg.max_epochs': '--epochs (`saim compare`: --pretrain-epochs)',
    'model.backbone.arch': '--arch, or what --init is of',
    'model.backbone.img_size': '--size, or what --init is of',
    'model.backbone.patch_size': '--patch, or what --init is of',
    'model.backbone.in_channels': '--channels',
}
#: Steps after which a checkpoint is due: some minutes of a GPU.
STEPS = 2000


def finish(
    cfg: Config,
    out: str | Path,
    number: int,
    epochs: int,
    rate: float,
    batch: int,
    wrapper: str,
    options: Mapping[str, Any] | None,
) -> None:
    """Fill in what all trainings have; ``options`` come last.

    Args:
        number: Of images.
        rate: The learning rate.
        batch: Images of a step of the optimiser.
        wrapper: The type of the ``optim_wrapper``.

    Raises:
        ValueError: If an option does not fit, or others follow from its field.
    """
    options = dict(options or {})
    for field, argument in ARGUMENTS.items():
        check_arg(
            field not in options,
            field,
            options.get(field),
            f'set by {argument}: other fields follow from it',
        )
    workers = min(8, max(1, (os.cpu_count() or 2) - 1))
    cfg.train_dataloader.num_workers = workers
    cfg.train_dataloader.persistent_workers = True
    cfg.optim_wrapper.type = wrapper
    cfg.optim_wrapper.optimizer.lr = rate
    cfg.auto_scale_lr.base_batch_size = batch
    at_a_time = cfg.train_dataloader.batch_size
    if at_a_time < batch and 'train_dataloader.batch_size' not in options:
        cfg.optim_wrapper.accumulative_counts = batch // at_a_time
    cfg.train_cfg.max_epochs = epochs
    warm_up = max(1, epochs // 10) if epochs > 1 else 0
    first, cosine = cfg.param_scheduler
    first.update(end=warm_up)
    cosine.update(begin=warm_up, end=epochs)
    if not warm_up:
        cfg.param_scheduler = [cosine]
    steps = max(1, number // batch)
    cfg.default_hooks.checkpoint.interval = max(
        1, min(epochs // 10, STEPS // steps)
    )
    cfg.default_hooks.logger.interval = 10
    cfg.work_dir = str(Path(out).expanduser().resolve())
    merge_options(cfg, options)
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        given = f'{name}.persistent_workers' in options
        if not given and cfg.get(name) and cfg[name].num_workers == 0:
            cfg[name].persistent_workers = False
    for field, value in (
        ('train_dataloader.batch_size', cfg.train_dataloader.batch_size),
        (
            'optim_wrapper.accumulative_counts',
            cfg.optim_wrapper.get('accumulative_counts', 1),
        ),
    ):
        check_positive_int(field, value)
    lr = cfg.optim_wrapper.optimizer.lr
    check_arg(
        isinstance(lr, (int, float)),
        'optim_wrapper.optimizer.lr',
        lr,
        'a rate',
    )


def describe_steps(cfg: Config, number: int) -> str:
    """In words, how long and in which steps a config trains on images."""
    batch = cfg.train_dataloader.batch_size
    counts = cfg.optim_wrapper.get('accumulative_counts', 1)
    each = (
        f' (as the memory of the GPU has it; weights change every {counts})'
        * (counts > 1)
    )
    return (
        f'{cfg.train_cfg.max_epochs} epochs of {max(1, number // batch)} '
        f'steps of {batch} images{each}, learning rate '
        f'{cfg.optim_wrapper.optimizer.lr:.1e}'
    )
