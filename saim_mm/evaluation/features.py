"""What a frozen encoder makes of a folder of images, once and for all."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dataset import Compose, default_collate
from mmengine.registry import init_default_scope
from mmpretrain.datasets import CustomDataset
from mmpretrain.models import TwoNormDataPreprocessor
from mmpretrain.registry import MODELS, TRANSFORMS
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from ..checkpoint.weights import load_backbone_weights
from ..datasets.images import EXTENSIONS
from ..datasets.pixels import RGB, PixelFormat
from ..datasets.workers import (
    explain_dead_processes,
    leave_signals_to_parent,
)
from ..models.vit_outputs import returning
from ..utils.check import check_arg
from ..utils.seed import temp_seed
from .readouts import mean_tokens


def num_extra_tokens(backbone: nn.Module) -> int:
    """Tokens before those of the patches, the class token first.

    Args:
        backbone: Of mmpretrain, also ``TIMMBackbone``.

    Returns:
        0 if it has no class token.
    """
    timm = getattr(backbone, 'timm_model', None)
    if timm is not None:
        return getattr(timm, 'num_prefix_tokens', 0)
    return getattr(backbone, 'num_extra_tokens', 0)


def backbone_outputs(
    backbone: nn.Module, images: Tensor, num_blocks: int = 1
) -> tuple[Tensor, ...]:
    """The tokens after the last blocks, of any backbone that has them.

    Args:
        backbone: Of mmpretrain: ViTs whatever their ``out_type``, also those
            that mask in pre-training; others as they are.
        images: (B, 3, H, W), normalised.
        num_blocks: How many blocks; the final norm follows the last alone.

    Returns:
        (B, T, C) each, or maps (B, C, H, W).

    Raises:
        ValueError: If it has fewer blocks, or neither tokens nor a map.
    """
    takes_mask = 'mask' in inspect.signature(backbone.forward).parameters
    arguments = dict(mask=None) if takes_mask else {}
    name = type(backbone).__name__
    if all(
        hasattr(backbone, x) for x in ('out_type', 'out_indices', 'layers')
    ):
        depth = len(backbone.layers)
        check_arg(
            0 < num_blocks <= depth,
            'num_blocks',
            num_blocks,
            f'1 to {depth}, the blocks of the backbone',
        )
        with returning(backbone, 'raw', range(depth - num_blocks, depth)):
            outputs = backbone(images, **arguments)
    else:
        outputs = backbone(images, **arguments)
        if getattr(backbone, 'timm_model', None) is not None and (
            getattr(backbone.timm_model, 'output_fmt', None) == 'NHWC'
        ):
            outputs = [x.permute(0, 3, 1, 2) for x in outputs]
    outputs = ((outputs,) if isinstance(outputs, Tensor) else tuple(outputs))[
        -num_blocks:
    ]
    check_arg(
        len(outputs) == num_blocks,
        'num_blocks',
        num_blocks,
        f'at most {len(outputs)}, the outputs of {name}',
    )
    check_arg(
        all(x.ndim in (3, 4) for x in outputs),
        'backbone',
        name,
        "one that returns its tokens or a map (out_type='raw', or "
        'gap_before_final_norm=False, where it has that), not '
        f'{[tuple(x.shape) for x in outputs]}',
    )
    return outputs


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradients; every part's mode is set back."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


class CenterCropResized:
    """A picture as the encoder sees it: nothing random.

    One of the model's size stays as it is; another is resized to cover 256/224
    of that, and cropped in the middle.

    Args:
        size: Height and width, of the model.
        pixels: What its images are.
    """

    def __init__(
        self, size: tuple[int, int], pixels: PixelFormat = RGB
    ) -> None:
        self.size = tuple(size)
        self.transform = Compose(
            TRANSFORMS.build(x) for x in pixels.center_crop(*self.size)
        )

    def __call__(self, results: dict) -> dict:
        if results['img'].shape[:2] == self.size:
            return results
        return self.transform(results)


def image_folder(
    folder: str | Path,
    size: tuple[int, int],
    field: str,
    labels: bool = True,
    max_images: int | None = None,
    pixels: PixelFormat = RGB,
) -> CustomDataset:
    """The images of a folder, with classes from its sub-folders.

    Args:
        size: Height and width, of the model.
        field: What named the folder, for errors.
        labels: Whether its sub-folders are classes.
        max_images: If there are more, as many evenly spaced.
        pixels: What images are to the model.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it holds fewer than two classes, or no images.
    """
    value = f'{field}={str(folder)!r}'
    if not Path(folder).is_dir():
        raise FileNotFoundError(
            f'{value}: no such folder; it must be one of images'
            + ', a sub-folder for each class' * labels
        )
    init_default_scope('mmpretrain')
    try:
        dataset = CustomDataset(
            data_root=str(folder),
            with_label=labels,
            extensions=EXTENSIONS,
            pipeline=[
                pixels.loading,
                CenterCropResized(size, pixels),
                dict(type='PackInputs', meta_keys=()),
            ],
        )
    except RuntimeError as error:
        raise ValueError(
            f'{value}: must hold images (names that end in one of '
            f'{sorted(EXTENSIONS)})'
            + ' in a sub-folder for each class'
            * labels
        ) from error
    classes = dataset.CLASSES if labels else ()
    if labels and len(classes) < 2:
        raise ValueError(
            f'{value}: must hold at least two classes, a sub-folder for each; '
            f'found {list(classes)}'
        )
    number = len(dataset)
    if max_images is not None and number > max_images:
        spaced = torch.arange(max_images) * number // max_images
        dataset.get_subset_(spaced.tolist())
    return dataset


def normalize(preprocessor: nn.Module, images: Tensor) -> Tensor:
    """A batch (B, 3, H, W), uint8, as a model's own preprocessor makes it."""
    if isinstance(preprocessor, TwoNormDataPreprocessor):
        images = [images, images]  # for the encoder, for the tokenizer
    data = preprocessor(dict(inputs=images, data_samples=None), False)
    images = data['inputs']
    return images[0] if isinstance(images, (list, tuple)) else images


@dataclass
class Features:
    """What probes need of a set of images.

    Attributes:
        vectors: By the names of readouts that have nothing to learn, (N, C),
            float32.
        tokens: (N, T, C), with all that is before the patches; None if they
            were not kept.
        labels: (N,), long; None without.
        num_extra_tokens: Tokens that are no patches.
    """

    vectors: dict[str, Tensor]
    tokens: Tensor | None
    labels: Tensor | None
    num_extra_tokens: int


def extract(
    model: nn.Module,
    dataset: Dataset,
    labels: bool = True,
    tokens: bool = True,
    num_blocks: int = 1,
    batch_size: int = 128,
    num_workers: int = 0,
    sampler: Sampler | None = None,
    dtype: torch.dtype = torch.float16,
) -> Features:
    """Read images through a frozen encoder, without a trace in the model.

    Mode, gradients, and the states of the CPU's random generators are as
    before.

    Args:
        model: With ``backbone`` and ``data_preprocessor``.
        dataset: Of :func:`image_folder`.
        labels: Whether it has labels.
        tokens: Whether to keep the tokens: N * T * C numbers.
        num_blocks: The mean of the last this many blocks.
        num_workers: Loading processes. Defaults to 0, in this one.
        sampler: Defaults to None, all in order.
        dtype: Of the tokens that are kept; vectors are computed before, and
            are float32.

    Raises:
        ValueError: If tokens that are kept are not finite, or too large for
            ``dtype``.
    """
    backbone = model.backbone
    extra = num_extra_tokens(backbone)
    device = next(backbone.parameters()).device
    loader = DataLoader(
        dataset,
        batch_size=batch_size,
        num_workers=num_workers,
        sampler=sampler,
        collate_fn=default_collate,
    )
    if num_workers:  # while training, too
        leave_signals_to_parent(loader)
    vectors: dict[str, list[Tensor]] = dict(cls_token=[], patch_mean=[])
    kept, numbers, done = None, [], 0
    with temp_seed((0,)), frozen(model), explain_dead_processes():
        for batch in loader:
            images = batch['inputs'].to(device)
            images = normalize(model.data_preprocessor, images)
            outputs = backbone_outputs(backbone, images, num_blocks)
            extra = 0 if outputs[0].ndim == 4 else extra
            mean = mean_tokens(outputs)
            vectors['patch_mean'].append(mean[:, extra:].mean(dim=1))
            if extra:
                vectors['cls_token'].append(mean[:, 0])
            if labels:
                numbers += [x.gt_label for x in batch['data_samples']]
            if not tokens:
                continue
            if kept is None:
                kept = mean.new_empty(
                    (len(loader.sampler), *mean.shape[1:]),
                    dtype=dtype,
                    device='cpu',
                )
            kept[done : done + len(mean)] = mean
            if not kept[done : done + len(mean)].isfinite().all():
                check_finite(mean.flatten(1), 'images')
                check_arg(
                    False,
                    'dtype',
                    dtype,
                    f'another: tokens reach {mean.abs().max():g}',
                )
            done += len(mean)
    return Features(
        {name: torch.cat(x).float() for name, x in vectors.items() if x},
        kept,
        torch.cat(numbers) if labels else None,
        extra,
    )


def check_finite(vectors: Tensor, of: str) -> None:
    """Refuse features, (N, C), that no probe can learn from.

    Args:
        of: What they are of.
    """
    rows = vectors.isfinite().all(dim=1)
    check_arg(
        bool(rows.all()),
        f'features of {of}',
        'not finite',
        f'finite: those of {int((~rows).sum())} of {len(rows)} are not; if '
        'the weights have diverged take an earlier checkpoint',
    )


def build_encoder(
    cfg: Config, checkpoint: str | Path | None = None, seed: int = 0
) -> nn.Module:
    """The model of a config, with the encoder of a checkpoint.

    Args:
        cfg: Of pre-training or classification.
        checkpoint: As for
            :func:`~saim_mm.checkpoint.weights.load_backbone_weights`. Defaults
            to None: random weights.
        seed: Of random weights.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If it is of another encoder.
    """
    init_default_scope('mmpretrain')
    options = copy.deepcopy(cfg.model)
    options.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
    options.backbone.init_cfg = None
    with temp_seed((seed,)):
        model = MODELS.build(options)
        model.backbone.init_weights()
    if checkpoint is not None:
        # Not by init_cfg: some of mmpretrain's pre-training backbones, such as
        # MAEViT, would initialise a part anew after they have loaded it.
        load_backbone_weights(model.backbone, checkpoint)
    return model
