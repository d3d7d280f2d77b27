"""What a pre-trained model predicts of an image."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from ..datasets.pixels import RGB, PixelFormat
from ..models.order import PredictionOrder
from ..models.saim import SAIM
from ..models.target import patchify, pixel_target, unpatchify
from ..utils.check import check_arg
from .figures import label_row, show


def normalize(model: nn.Module, images: Tensor) -> Tensor:
    """Pixels as a model's data preprocessor gives them to the backbone."""
    to = model.data_preprocessor
    return (images.to(to.mean.device) - to.mean) / to.std


def denormalize(model: nn.Module, inputs: Tensor) -> Tensor:
    """The inverse of :func:`normalize`."""
    return inputs * model.data_preprocessor.std + model.data_preprocessor.mean


@torch.no_grad()
def reconstruct(
    model: SAIM, images: Tensor, order: PredictionOrder | None = None
) -> tuple[Tensor, Tensor]:
    """Predict every patch from those before it (Fig. 3).

    A model that is trained on normalised patches does not predict their mean
    and contrast; these are taken from the target, as MAE's demo does.

    Args:
        model: The model, in evaluation mode.
        images: Of :func:`~.figures.load_images`, (B, C, H, W).
        order: Defaults to None, a new one.

    Returns:
        The blurred images and the predicted ones,
        pixels as in ``images``.

    Raises:
        ValueError: If the model predicts no pixels.
    """
    target = pixel_target(model)
    inputs = normalize(model, images)
    order = order or model.sample_order(inputs)
    number = order.indices.shape[1]
    check_arg(
        order.predicted == number, 'order.prefix', order.prefix, '0, none'
    )
    patches = order.unsort(model.predict_patches(inputs, order))
    blurred = target.blur(inputs)
    if target.normalize:
        patch_mean, patch_std = target.statistics(
            patchify(blurred, target.patch_size)
        )
        patches = patches * patch_std + patch_mean
    predicted = unpatchify(
        patches, target.patch_size, model.backbone.patch_resolution
    )
    return tuple(denormalize(model, x) for x in (blurred, predicted))


@torch.no_grad()
def statistics_alone(model: SAIM, images: Tensor) -> Tensor:
    """What a model that knows nothing would make of images.

    Noise in place of the predictions, with each patch's own mean and contrast:
    what a picture owes to these.

    Args:
        model: One that is trained on normalised patches.
        images: Of :func:`~.figures.load_images`, (B, C, H, W).

    Returns:
        Pixels as in ``images``.
    """
    target = pixel_target(model)
    inputs = normalize(model, images)
    patches = patchify(target.blur(inputs), target.patch_size)
    patch_mean, patch_std = target.statistics(patches)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(patches.shape, generator=generator).to(patches)
    noise_mean, noise_std = target.statistics(noise)
    noise = (noise - noise_mean) / noise_std
    whole = unpatchify(
        noise * patch_std + patch_mean,
        target.patch_size,
        model.backbone.patch_resolution,
    )
    return denormalize(model, whole)


@torch.no_grad()
def reconstruct_mae(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """What mmpretrain's MAE makes of the patches that it is shown.

    Args:
        model: mmpretrain's ``MAE``, in evaluation mode.
        images: Of :func:`~.figures.load_images`, (B, C, H, W).

    Returns:
        What it is shown, grey where nothing, and that
        with its predictions in place of the grey; pixels as in ``images``.
    """
    inputs = normalize(model, images)
    latent, mask, ids_restore = model.backbone(inputs, mask=True)
    predicted = model.neck(latent, ids_restore)  # (B, L, P)
    patches = model.head.patchify(inputs)
    if model.head.norm_pix:
        variance = patches.var(dim=-1, keepdim=True)
        predicted = predicted * (variance + 1e-6) ** 0.5
        predicted = predicted + patches.mean(dim=-1, keepdim=True)
    hidden = mask.unsqueeze(-1)  # 1: not shown
    gray = normalize(model, torch.full_like(images, 127.5))
    wholes = (
        model.head.unpatchify(patches * (1 - hidden) + x * hidden)
        for x in (model.head.patchify(gray), predicted)
    )
    return tuple(denormalize(model, x) for x in wholes)


def draw_reconstructions(
    model: SAIM,
    images: Tensor,
    orders: Sequence[PredictionOrder | None] = (None,),
    mae: nn.Module | None = None,
    pixels: PixelFormat = RGB,
) -> Figure:
    """Draw each image beside its blurred target and the prediction.

    And beside what mean and contrast of its patches show by themselves, if the
    prediction is shown with these.

    Args:
        model: The model, in evaluation mode.
        images: Of :func:`~.figures.load_images`, (B, C, H, W).
        orders: A row of predictions for each; None: a new one. Defaults to one
            new order.
        mae: mmpretrain's ``MAE``; adds two rows.
        pixels: What the images are.

    Returns:
        One column for each image.
    """
    normalized = pixel_target(model).normalize
    own = "\n(each patch's own\nmean and contrast)" if normalized else ''
    rows: list[tuple[str, Tensor]] = [('original', images)]
    for number, order in enumerate(orders, start=1):
        blurred, predicted = reconstruct(model, images, order)
        if number == 1:
            rows.append(('blurred target', blurred))
        which = f'order {number}, ' if len(orders) > 1 else ''
        rows.append(
            (
                f'{which}prediction,\neach patch from\nthose before it{own}',
                predicted,
            )
        )
    if normalized:
        alone = statistics_alone(model, images)
        rows.append(('mean and contrast\nalone, with noise\npredicted', alone))
    if mae is not None:
        shown, predicted = reconstruct_mae(mae, images)
        own = '\n(own mean and contrast)' if mae.head.norm_pix else ''
        rows += [('MAE is shown', shown), (f'MAE predicts{own}', predicted)]
    figure = Figure(
        figsize=(1.3 * len(images) + 1.8, 1.4 * len(rows)),
        layout='compressed',
    )
    with matplotlib.rc_context({'font.size': 9}):
        axes = figure.subplots(len(rows), len(images), squeeze=False)
        for line, (title, pictures) in zip(axes, rows):
            label_row(line[0], title)
            for axis, picture in zip(line, pixels.to_rgb(pictures.cpu())):
                show(axis, picture)
    return figure
