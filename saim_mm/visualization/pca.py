"""Features of the patches as colours."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ..datasets.pixels import RGB, PixelFormat
from ..models.vit import SAIMViT
from ..models.vit_outputs import layer_output
from ..utils.check import check_arg
from .figures import label_row, show


def pca_to_rgb(features: Tensor) -> Tensor:
    """Dense features as colours: their first three principal components.

    Args:
        features: (N, C, rows, columns); the components are those of all N
            together, so a colour means the same in each.

    Returns:
        0 to 255, (N, 3, rows, columns).
    """
    number, channels, rows, columns = features.shape
    check_arg(
        channels >= 3, 'features', tuple(features.shape), '3 channels at least'
    )
    flat = features.permute(0, 2, 3, 1).reshape(-1, channels).double()
    flat = flat - flat.mean(dim=0)
    _, _, directions = torch.linalg.svd(flat, full_matrices=False)
    # Of the two signs of each the one with more of the positive.
    directions = directions[:3] * directions[:3].sum(1, keepdim=True).sign()
    colors = flat @ directions.T
    low, high = colors.quantile(
        torch.tensor([0.01, 0.99], dtype=colors.dtype, device=colors.device),
        dim=0,
    )
    colors = ((colors - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
    return (
        (255 * colors)
        .float()
        .reshape(number, rows, columns, 3)
        .permute(0, 3, 1, 2)
    )


@torch.no_grad()
def draw_pca(
    vit: SAIMViT,
    images: Tensor,
    layer: int = -1,
    pixels: PixelFormat = RGB,
) -> Figure:
    """Draw the dense features of images as colours.

    Args:
        vit: In evaluation mode.
        images: Of :func:`~.figures.load_images`, (B, C, H, W).
        layer: The block, from 0, or from the end with -1.
        pixels: What the images are.

    Returns:
        The images above their features.

    Raises:
        ValueError: If there is no such block.
    """
    inputs = pixels.normalize(images).to(vit.pos_embed.device)
    features = layer_output(vit, inputs, layer, 'featmap').cpu()
    height, width = images.shape[2:]
    block = layer % len(vit.layers)
    rows = {
        'image': pixels.to_rgb(images),
        'features of the\npatches (block '
        f'{block}):\ntheir 3 principal\ncomponents as\nred, green, blue': (
            pca_to_rgb(features)
        ),
    }
    figure = Figure(
        figsize=(1.6 * len(images) + 1.4, 3.4 * height / width),
        layout='compressed',
    )
    axes = figure.subplots(2, len(images), squeeze=False)
    for line, (title, pictures) in zip(axes, rows.items()):
        label_row(line[0], title)
        for axis, picture in zip(line, pictures):
            show(axis, picture)
    return figure
