"""Trainings that follow from a folder of images and from the machine.

What ``saim pretrain`` and ``saim finetune`` run: configs of this package with
the numbers filled in, written to ``OUT/config.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.device import get_device

from ..checkpoint.zoo import root
from ..datasets.folders import (
    Folder,
    choose_fraction,
    look_at,
    split_classes,
)
from ..datasets.pixels import RGB, PixelFormat
from ..models.vit import SAIMViT
from ..utils.check import check_arg, check_choice
from .checks.device import cpu_has_bfloat16, gpu_has_bfloat16
from .finish import describe_steps, finish
from .inputs import choose_pixels
from .memory import cut, images_at_a_time
from .network import ARCHS, backbone_of, network_of
from .run import (
    LISTS,
    checkpoint_of,
    run,
    training_of,
    write_list,
)

PRETRAIN = 'pretrain/saim_vit-small-p16_1xb128-amp-coslr-200e_folder.py'
FINETUNE = 'classification/vit-small-p16_1xb64-amp-coslr-50e_folder.py'


def precision(options: Mapping[str, Any] | None) -> tuple[str, str]:
    """The optimiser wrapper of the options or for this machine, and why."""
    given = (options or {}).get('optim_wrapper.type')
    if given is not None:
        return given, f'{get_device()}, {given}'
    if get_device() == 'cuda':
        if gpu_has_bfloat16():
            return 'BFloat16OptimWrapper', 'GPU, bfloat16'
        return 'AmpOptimWrapper', 'GPU, float16'
    if cpu_has_bfloat16():
        return 'BFloat16OptimWrapper', 'CPU with bfloat16'
    return 'OptimWrapper', 'CPU, float32'


def choose_network(
    folder: Folder,
    arch: str | None = None,
    size: int | None = None,
    patch: int | None = None,
) -> tuple[str, int, int]:
    """What :func:`pretrain_config` says of the three, for a folder."""
    gpu = get_device() == 'cuda'
    short = min(folder.height, folder.width)
    if size is None:
        largest = 224 if gpu else 96
        size = min(
            largest,
            next((s for s in (32, 64, 96) if short < s * 1.5), largest),
        )
    if patch is None:
        patch = 4 if size <= 40 else 8 if size <= 128 else 16
    check_arg(patch > 0, 'patch', patch, 'a positive number of pixels')
    check_arg(
        size > 0 and size % patch == 0,
        'size',
        size,
        f'a multiple of patch={patch} (pixels)',
    )
    if arch is None and gpu:
        arch = next(
            (
                a
                for a, n in (('tiny', 2e4), ('small', 3e5))
                if folder.number < n
            ),
            'base',
        )
    elif arch is None:
        arch = 'mini' if size <= 64 else '192x4'
    check_choice('arch', arch, ARCHS)
    return arch, size, patch


def pretrain_config(
    data: str | Path,
    out: str | Path,
    arch: str | None = None,
    size: int | None = None,
    patch: int | None = None,
    channels: int | None = None,
    epochs: int | None = None,
    init: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    images: Sequence[str] | None = None,
) -> tuple[Config, str]:
    """The config of a pre-training, and in a line what it is and why.

    Args:
        data: A folder of images.
        out: The folder of the training.
        arch: One of :data:`ARCHS`. By default that of the training that
            ``init`` is of; or 'mini' or '192x4' on a CPU, and by the number
            of images on a GPU.
        size: Side of a crop in pixels, a multiple of ``patch``. By default
            that of ``init``'s training; or what the images have, at most 96
            on a CPU and 224 on a GPU.
        patch: Side of a patch in pixels. By default that of ``init``'s
            training; or 4, 8 or 16, by ``size``.
        channels: Of an image. By default as many as all images have, and with
            a checkpoint as many as its model's; RGB for those of others. 3: of
            8-bit images RGB, and a greyscale one of more bits three times.
        epochs: Passes over the images. By default as many as make about 2,000
            steps on a CPU (5 to 400 passes), and 60,000 on a GPU (100 to 800).
        init: A checkpoint to start from.
        options: Any option of the config, as ``--cfg-options`` takes them.
        images: Those in ``data`` that are trained on, if ``options`` name a
            list of them.

    Raises:
        ValueError: If an argument does not fit.
        FileNotFoundError: If there is no such folder or checkpoint.
    """
    folder = look_at(data)
    checkpoint = init and checkpoint_of(init)
    if init is not None:
        arch, size, patch = network_of(init, arch, size, patch)
    if images is not None:
        files = [folder.path / name for name in images]
        folder = replace(folder, number=len(files), files=files)
    arch, size, patch = choose_network(folder, arch, size, patch)
    pixels = choose_pixels(folder, channels, out, init)
    gpu = get_device() == 'cuda'
    batch = 256 if gpu else 128 if folder.number >= 10_000 else 64
    batch = cut(min(batch, max(1, folder.number // 4)))
    if epochs is None:
        steps, least, most = (60_000, 100, 800) if gpu else (2000, 5, 400)
        epochs = round(steps * batch / folder.number)
        epochs = min(max(epochs, least), most)
    check_arg(epochs > 0, 'epochs', epochs, 'a positive number of passes')
    wrapper, machine = precision(options)
    # The paper's rule is for ViT-B; small networks learn at higher rates.
    rate = min(1e-3 * batch / 64, 1.5e-3)
    if arch in ('base', 'large'):
        rate = 2e-4 * batch / 256

    cfg = load(PRETRAIN)
    cfg.model.backbone.update(
        arch=ARCHS[arch], img_size=size, patch_size=patch
    )
    # As wide as the paper's beside a patch: a pixel of 16 (docs/study.md).
    cfg.model.target_generator.sigma = patch / 16
    if init is not None:
        cfg.model.backbone.init_cfg = dict(
            type='Pretrained', checkpoint=checkpoint
        )
    loader = cfg.train_dataloader
    loader.batch_size = images_at_a_time(
        batch, cfg.model.backbone, wrapper, decoder=True
    )
    loader.drop_last = True
    loader.dataset.data_root = str(folder.path)
    crop, *others = loader.dataset.pipeline
    crop.scale = size
    if not pixels.plain:
        cfg.model.backbone.in_channels = pixels.channels
        cfg.data_preprocessor = dict(
            type='ClsDataPreprocessor', **pixels.scaling
        )
        crop.type = 'PixelsRandomResizedCrop'
        loader.dataset.pipeline = [pixels.loading, crop, *others]
    finish(cfg, out, folder.number, epochs, rate, batch, wrapper, options)
    return cfg, (
        f'{folder}{pixels}; {machine}: {size} pixels in patches of {patch}, '
        f'ViT {arch!r}, {describe_steps(cfg, folder.number)}'
    )


def finetune_config(
    data: str | Path,
    out: str | Path,
    init: str | Path | None = None,
    channels: int | None = None,
    epochs: int | None = None,
    options: Mapping[str, Any] | None = None,
    fraction: float = 1.0,
    seed: int = 0,
    backbone: Mapping[str, Any] | None = None,
    pixels: PixelFormat | None = None,
) -> tuple[Config, str]:
    """The config of a fine-tuning on folders of classes, and a line about it.

    Args:
        data: ``train/CLASS/*`` and ``val/CLASS/*``; or ``CLASS/*``, of which
            every fifth image of a class is for validation. What cannot be
            decoded is named in the line, and left out.
        out: The folder of the training.
        init: The folder of a pre-training, or a checkpoint in it. None: from
            scratch.
        channels: As for :func:`pretrain_config`.
        epochs: Passes over the images. By default as many as make about 2,000
            steps on a CPU (5 to 100 passes), and 50 on a GPU.
        options: As for :func:`pretrain_config`.
        fraction: Of each class's training images; see
            :func:`~saim_mm.datasets.folders.choose_fraction`.
        seed: Of that choice, and of the training.
        backbone: Without ``init`` the network, a config's ``model.backbone``.
            By default what :func:`pretrain_config` would take.
        pixels: With ``backbone``, what its images are.

    Raises:
        ValueError: If an argument does not fit.
        FileNotFoundError: If there is no such folder or checkpoint.
    """
    folder = look_at(data)
    if init is None and backbone is not None:
        backbone = dict(backbone)
    elif init is None:
        arch, size, patch = choose_network(folder)
        pixels = choose_pixels(folder, channels, out)
        backbone = dict(
            type='SAIMViT', arch=ARCHS[arch], img_size=size, patch_size=patch
        )
        if not pixels.plain:
            backbone['in_channels'] = pixels.channels
    else:
        config, checkpoint = training_of(init)
        backbone = backbone_of(config)
        check_arg(
            isinstance(backbone['img_size'], int),
            'init',
            str(init),
            f'of square images, not {backbone["img_size"]}; train others by '
            'tools/train.py',
        )
        theirs = backbone.get('in_channels', 3)
        check_arg(
            channels in (None, theirs),
            'channels',
            channels,
            f"{theirs}, those of init={str(init)!r}'s model",
        )
        pixels = choose_pixels(folder, None, out, init)
        backbone['init_cfg'] = dict(
            type='Pretrained', checkpoint=checkpoint, prefix='backbone.'
        )
    check_arg(
        not Path(out).expanduser().resolve().is_relative_to(folder.path),
        'out',
        str(out),
        f'outside of {folder.path}, where it would be a class',
    )
    found = split_classes(folder.path)
    train, val, classes = found.train, found.val, found.names
    train = [train[index] for index in choose_fraction(train, fraction, seed)]
    number = len(train)
    size = backbone['img_size']
    batch = cut(min(64, max(1, number // 4)))
    if epochs is None:
        gpu = get_device() == 'cuda'
        epochs = 50 if gpu else min(max(round(2000 * batch / number), 5), 100)
    check_arg(epochs > 0, 'epochs', epochs, 'a positive number of passes')
    wrapper, machine = precision(options)

    cfg = load(FINETUNE)
    cfg.randomness.seed = seed
    arch = SAIMViT.parse_arch(backbone['arch'])
    cfg.model.backbone = dict(backbone, drop_path_rate=0.1 * (size >= 224))
    cfg.model.head.update(
        num_classes=len(classes), in_channels=arch['embed_dims']
    )
    cfg.data_preprocessor.num_classes = len(classes)
    pixels = pixels or RGB
    cfg.data_preprocessor.update(pixels.scaling)
    if init is None or arch['num_layers'] < 12:
        # From scratch, or in so few steps, lower blocks would hardly move.
        cfg.optim_wrapper.paramwise_cfg.layer_decay_rate = 1.0
    both = dict(
        type='CustomDataset',
        data_root='',
        data_prefix=str(folder.path),
        metainfo=dict(classes=classes),
    )
    lists = {}
    for loader, name, lines, pipeline in (
        (
            cfg.train_dataloader,
            LISTS[0],
            train,
            [
                pixels.random_crop(scale=size, crop_ratio_range=(0.5, 1.0)),
                dict(type='RandomFlip', prob=0.5, direction='horizontal'),
            ],
        ),
        (
            cfg.val_dataloader,
            LISTS[1],
            val,
            pixels.center_crop(size, size),
        ),
    ):
        listed = Path(out).expanduser().resolve() / name
        lists[listed] = lines
        loader.batch_size = images_at_a_time(batch, backbone, wrapper)
        loader.dataset = dict(
            **both,
            ann_file=str(listed),
            pipeline=[
                pixels.loading,
                *pipeline,
                dict(type='PackInputs'),
            ],
        )
    cfg.val_dataloader.num_workers = 1
    cfg.test_dataloader = cfg.val_dataloader
    cfg.train_cfg.val_interval = max(1, epochs // 10)
    rate = 5e-4 * batch / 256 if size >= 224 else 1e-3 * batch / 64
    finish(cfg, out, number, epochs, rate, batch, wrapper, options)
    for listed, lines in lists.items():
        write_list(listed, lines)
    start = f'weights of {init}' if init else 'from scratch'
    line = (
        f'{folder}{pixels}, {len(classes)} classes, {number} to train on and '
        f'{len(val)} to validate; {machine}: {start}, '
        f'{describe_steps(cfg, number)}'
    )
    return cfg, '\n'.join([line, *found.skipped])


def load(name: str) -> Config:
    """A config of this package."""
    return Config.fromfile(root() / 'configs' / name)


def pretrain(data: str | Path, out: str | Path, **arguments: Any) -> Path:
    """Do what ``saim pretrain`` does; arguments of :func:`pretrain_config`.

    Returns:
        The last checkpoint.
    """
    return run(pretrain_config(data, out, **arguments)[0])


def finetune(data: str | Path, out: str | Path, **arguments: Any) -> Path:
    """Do what ``saim finetune`` does; arguments of :func:`finetune_config`.

    Returns:
        The last checkpoint.
    """
    return run(finetune_config(data, out, **arguments)[0])
