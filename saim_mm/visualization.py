"""Pictures of what a pre-trained model predicts."""

from collections.abc import Sequence
from typing import Optional

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageOps
from torch import Tensor

from .algorithm import SAIM
from .data import read_image
from .order import PredictionOrder
from .target import patchify, unpatchify


def load_images(paths: Sequence[str], size: tuple[int, int]) -> Tensor:
    """Load images, cut and scaled to a size.

    Args:
        paths (Sequence[str]): The files.
        size (tuple[int, int]): Height and width in pixels.

    Returns:
        Tensor: RGB, float32, 0 to 255, (B, 3, H, W).

    Raises:
        ValueError: If a file is no image.
    """
    images = []
    for path in paths:
        pixels = np.ascontiguousarray(read_image(path)[..., ::-1])
        fitted = ImageOps.fit(
            Image.fromarray(pixels), size[::-1], Image.Resampling.BICUBIC
        )
        images.append(torch.from_numpy(np.array(fitted)).permute(2, 0, 1))
    return torch.stack(images).float()


@torch.no_grad()
def reconstruct(
    model: SAIM, images: Tensor, order: Optional[PredictionOrder] = None
) -> tuple[Tensor, Tensor]:
    """Predict every patch from those before it (Fig. 3).

    A model that is trained on normalised patches does not predict their mean
    and contrast; these are taken from the target, as MAE's demo does.

    Args:
        model (SAIM): The model, in evaluation mode.
        images (Tensor): Pixels, RGB, 0 to 255, (B, 3, H, W).
        order (PredictionOrder, optional): Defaults to None, a new one.

    Returns:
        tuple[Tensor, Tensor]: The blurred images and the predicted ones,
        pixels as in ``images``.
    """
    mean, std = model.data_preprocessor.mean, model.data_preprocessor.std
    inputs = (images.to(mean.device) - mean) / std
    order = order or model.draw_order(inputs)
    patches = order.unsort(model.predict_patches(inputs, order))
    target = model.target_generator
    blurred = target.blur(inputs)
    if target.normalize:
        patch_mean, patch_std = target.statistics(
            patchify(blurred, target.patch_size)
        )
        patches = patches * patch_std + patch_mean
    predicted = unpatchify(
        patches, target.patch_size, model.backbone.patch_resolution
    )
    return tuple(x * std + mean for x in (blurred, predicted))


def draw_reconstructions(
    model: SAIM, images: Tensor, order: Optional[PredictionOrder] = None
) -> Figure:
    """Draw each image beside its blurred target and the prediction.

    Args:
        model (SAIM): The model, in evaluation mode.
        images (Tensor): Pixels, RGB, 0 to 255, (B, 3, H, W).
        order (PredictionOrder, optional): Defaults to None, a new one.

    Returns:
        Figure: Three rows, one column for each image.
    """
    blurred, predicted = reconstruct(model, images, order)
    own = (
        "\n(each patch's own\nmean and contrast)"
        if model.target_generator.normalize
        else ''
    )
    rows: list[tuple[str, Tensor]] = [
        ('original', images),
        ('blurred target', blurred),
        (f'prediction, each\npatch from those\nbefore it{own}', predicted),
    ]
    figure = Figure(
        figsize=(1.3 * len(images) + 1.3, 4.2), layout='constrained'
    )
    with matplotlib.rc_context({'font.size': 9}):
        axes = figure.subplots(len(rows), len(images), squeeze=False)
        for line, (title, pictures) in zip(axes, rows):
            line[0].set_ylabel(
                title, rotation=0, ha='right', va='center', fontsize=9
            )
            for axis, picture in zip(line, pictures.cpu()):
                axis.imshow(
                    picture.permute(1, 2, 0).clamp(0, 255).byte().numpy(),
                    interpolation='nearest',
                )
                axis.set(xticks=[], yticks=[])
                axis.spines[:].set_visible(False)
    return figure
