"""What fields of a config have to be to one another."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...datasets.pixels import image_settings
from .values import is_number, refuse


def check_relations(cfg: Mapping) -> None:
    """Refuse fields that contradict each other.

    Raises:
        ConfigError: Naming both.
    """
    for phase, needed in (
        ('train', 'optim_wrapper'),
        ('val', 'val_evaluator'),
        ('test', 'test_evaluator'),
    ):
        check_phase(cfg, [f'{phase}_dataloader', f'{phase}_cfg', needed])
        check_workers(f'{phase}_dataloader', cfg)
    check_checkpoint(cfg)
    check_sampler(cfg)
    check_schedules(cfg)
    check_sizes(cfg)
    check_channels(cfg)
    check_crops(cfg)


def check_phase(cfg: Mapping, names: list[str]) -> None:
    """Refuse a phase that is only half there."""
    missing = [name for name in names if cfg.get(name) is None]
    if missing and len(missing) < len(names):
        there = [name for name in names if name not in missing]
        refuse(
            missing[0],
            None,
            f'must be there, as {" and ".join(there)} are; or none of them',
        )


def check_workers(name: str, cfg: Mapping) -> None:
    """Refuse, without loading processes, what is for them."""
    loader = cfg.get(name) or {}
    for option in ('persistent_workers', 'prefetch_factor'):
        if loader.get('num_workers', 0) == 0 and loader.get(option):
            refuse(
                f'{name}.num_workers',
                0,
                f'must be 1 or more, as {option}={loader[option]!r}; or '
                'leave that out',
            )


def check_checkpoint(cfg: Mapping) -> None:
    """Refuse to start from a checkpoint that is not there."""
    path = cfg.get('load_from')
    if path and '://' not in path and not Path(path).exists():
        refuse(
            'load_from',
            path,
            'no such file; set it to a checkpoint, or to None for none',
        )


def check_sampler(cfg: Mapping) -> None:
    """Refuse an epoch without an end."""
    loop = cfg.get('train_cfg') or {}
    loader = cfg.get('train_dataloader') or {}
    sampler = loader.get('sampler')
    if loader and not (
        sampler or loader.get('batch_sampler') or loader.get('shuffle')
    ):
        refuse(
            'train_dataloader.sampler',
            sampler,
            "must be there: dict(type='DefaultSampler', shuffle=True), or "
            'each epoch has the images in the order of their names',
        )
    sampler = sampler or {}
    by_epoch = loop.get('max_epochs') is not None
    kind = sampler.get('type')
    name = str(getattr(kind, '__name__', kind)).rpartition('.')[2]
    if by_epoch and name == 'InfiniteSampler':
        refuse(
            'train_dataloader.sampler.type',
            kind,
            "must be another, such as 'DefaultSampler', with "
            'train_cfg.max_epochs: no epoch would end',
        )
    if by_epoch and sampler.get('infinite'):
        refuse(
            'train_dataloader.sampler.infinite',
            sampler['infinite'],
            'must be False with train_cfg.max_epochs: no epoch would end',
        )


def check_schedules(cfg: Mapping) -> None:
    """Refuse schedules that end before they begin."""
    for number, scheduler in enumerate(schedulers(cfg)):
        begin, end = scheduler.get('begin', 0), scheduler.get('end')
        if is_number(begin) and is_number(end) and begin >= end:
            refuse(
                f'param_scheduler.{number}.end',
                end,
                f'must be more than begin={begin}',
            )


def check_sizes(cfg: Mapping) -> None:
    """Refuse crops of another size than a SAIM's images, or smaller blurs."""
    model = cfg.get('model') or {}
    backbone = model.get('backbone') or {}
    if (
        'rpn_head' in model
        and backbone.get('type') == 'SAIMViT'
        and model.get('neck') is None
    ):
        refuse(
            'model.neck',
            None,
            "must be a 'SimpleFeaturePyramid' or 'MultiBlockFPN': the maps of "
            'a ViT have one size',
        )
    if model.get('type') != 'SAIM':
        return
    size = pair(backbone.get('img_size', 224))
    dataset = (cfg.get('train_dataloader') or {}).get('dataset') or {}
    crops = [
        (number, transform)
        for number, transform in enumerate(dataset.get('pipeline') or ())
        if isinstance(transform, Mapping)
        and str(transform.get('type')).endswith('RandomResizedCrop')
    ]
    for number, transform in crops[-1:]:
        scale = transform.get('scale')
        if size and pair(scale) and pair(scale) != size:
            refuse(
                'model.backbone.img_size',
                backbone.get('img_size', 224),
                'must be the size of the crops, which is '
                f'train_dataloader.dataset.pipeline.{number}.scale={scale!r}',
            )
    target = model.get('target_generator') or {}
    default = 9 if target.get('type') == 'SmoothedPatchTarget' else None
    blur = target.get('kernel_size', default)
    if size and is_number(blur) and blur > min(size):
        refuse(
            'model.target_generator.kernel_size',
            blur,
            f'must be at most the side of the images, {min(size)} pixels; '
            'or None for no blur',
        )


def check_channels(cfg: Mapping) -> None:
    """Refuse images of other channels than the model is for."""
    first, preprocessor = image_settings(cfg)
    if not first:
        return
    channels = first.get('channels')
    backbone = (cfg.get('model') or {}).get('backbone') or {}
    of_model = backbone.get('in_channels', 3)
    place = 'train_dataloader.dataset.pipeline.0.channels'
    if of_model != channels:
        refuse(
            'model.backbone.in_channels',
            of_model,
            f'must be that of the images, {place}={channels}',
        )
    for name in ('mean', 'std'):
        values = preprocessor.get(name)
        if values is not None and len(values) not in (1, channels):
            refuse(
                f'data_preprocessor.{name}',
                values,
                f'must be one for each channel, {place}={channels}',
            )


def check_crops(cfg: Mapping) -> None:
    """Refuse images that nothing crops, or that are cropped twice."""
    dataset = (cfg.get('train_dataloader') or {}).get('dataset') or {}
    while isinstance(dataset.get('dataset'), Mapping):  # of a wrapper
        dataset = dataset['dataset']
    crop = image_settings(cfg)[1].get('random_crop')
    field = 'data_preprocessor.random_crop'
    if dataset.get('type') == 'ImagesInMemory' and crop is None:
        refuse(
            field,
            None,
            'must be a dict (empty for its defaults) with images in memory: '
            'no pipeline crops them',
        )
    for number, transform in enumerate(dataset.get('pipeline') or ()):
        if not isinstance(transform, Mapping):
            continue
        name = str(transform.get('type'))
        if crop is not None and name.endswith(
            ('RandomResizedCrop', 'LoadPixels')
        ):
            refuse(
                field,
                crop,
                'must be left out with '
                f'train_dataloader.dataset.pipeline.{number}.type={name!r}: '
                'it is for 8-bit RGB images that no pipeline has cropped',
            )


def pair(size: Any) -> tuple[int, int] | None:
    """A size in pixels as height and width."""
    if is_number(size):
        return size, size
    return tuple(size) if isinstance(size, (list, tuple)) else None


def schedulers(cfg: Mapping) -> list[Mapping]:
    """The schedulers of a config, which may be one or several."""
    found = cfg.get('param_scheduler') or []
    found = [found] if isinstance(found, Mapping) else found
    return [scheduler for scheduler in found if isinstance(scheduler, Mapping)]


def check_layers(node: Mapping, cls: type | None, field: str) -> None:
    """Refuse layers in another order than the backbone's, or one twice."""
    layers, arch = node.get('out_indices'), node.get('arch')
    if not (cls and isinstance(layers, (list, tuple))):
        return
    if not all(map(is_number, layers)):
        return
    if isinstance(arch, str):
        arch = getattr(cls, 'arch_zoo', {}).get(arch)
    depth = (arch if isinstance(arch, Mapping) else {}).get('num_layers')
    from_first = [n if n >= 0 else n + (depth or 1000) for n in layers]
    if from_first != sorted(set(from_first)):
        refuse(
            field,
            layers,
            'must be different layers, in the order of the backbone',
        )
