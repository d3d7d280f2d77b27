"""What a patch or the class token attends to."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from ..datasets.pixels import RGB, PixelFormat
from ..models.attention import attention_weights
from ..models.vit import SAIMViT
from ..models.vit_arguments import check_layer
from ..utils.check import check_arg
from .figures import point_to_patch, show

#: Pictures in a row: more are too small to see on a page.
COLUMNS = 3


@torch.no_grad()
def attention_maps(
    vit: SAIMViT, images: Tensor, layer: int = -1
) -> tuple[list[Tensor], Tensor]:
    """The attention of every block (Fig. 4).

    Args:
        vit: In evaluation mode; every block of it attends to the whole image.
        images: (B, 3, H, W), normalised, of any size.
        layer: The block whose heads are wanted, from 0, or from the end with
            -1.

    Returns:
        Of each block the mean of its heads, (B, T, T), and of ``layer`` each
        head, (B, heads, T, T). The rows sum to 1; T is the class token, if
        there is one, and the patches in raster order. (Those of all heads of
        all blocks would be gigabytes of a large image.)

    Raises:
        ValueError: If the backbone has windows or relative positions.
    """
    check_arg(
        vit.whole_image,
        'backbone',
        'with windows or relative positions',
        'one whose blocks all attend to the whole image',
    )
    check_layer(vit, layer)
    chosen = vit.layers[layer].attn
    means, heads = [], []

    def look(attention: nn.Module, inputs: tuple) -> None:
        weights = attention_weights(attention, inputs[0])
        means.append(weights.mean(dim=1))
        if attention is chosen:
            heads.append(weights)

    hooks = [
        layer.attn.register_forward_pre_hook(look) for layer in vit.layers
    ]
    try:
        vit(images)
    finally:
        for hook in hooks:
            hook.remove()
    return means, heads[0]


def attention_rollout(means: Sequence[Tensor]) -> Tensor:
    """How much of each input token is in each output token.

    Abnar and Zuidema, "Quantifying Attention Flow in Transformers", 2020: the
    product of the blocks' mean attention, half of it the residual.

    Args:
        means: Of :func:`attention_maps`.

    Returns:
        (B, T, T), the rows sum to 1.
    """
    rollout = None
    for mean in means:
        eye = torch.eye(mean.shape[-1], device=mean.device)
        step = (mean + eye) / 2
        rollout = step if rollout is None else step @ rollout
    return rollout


def draw_attention(
    vit: SAIMViT,
    image: Tensor,
    points: Sequence[tuple[int, int]],
    layer: int = -1,
    heads: Sequence[int] | None = None,
    pixels: PixelFormat = RGB,
) -> Figure:
    """Draw where the patches at some points look (Fig. 4).

    Args:
        vit: As for :func:`attention_maps`.
        image: One of :func:`~.figures.load_images`, (C, H, W).
        points: x and y in pixels.
        layer: The block, from 0, or from the end with -1.
        heads: The heads to draw, from 0. Defaults to None: all.
        pixels: What the image is.

    Returns:
        For each point, three in a row: the image with the point, attention
        rollout, the mean of the heads, each head. The colours are over the
        grey image; the scale under each says their shares of the attention.

    Raises:
        ValueError: If a point is outside the image, or there is no such
            block or head.
    """
    check_layer(vit, layer)
    number_of_heads = vit.layers[layer].attn.num_heads
    if heads is None:
        heads = range(number_of_heads)
    for head in heads:
        check_arg(
            0 <= head < number_of_heads,
            'head',
            head,
            f'one of the {number_of_heads} heads, 0 to {number_of_heads - 1}',
        )
    size = tuple(image.shape[1:])
    indices = [point_to_patch(p, size, vit.patch_size) for p in points]
    inputs = pixels.normalize(image.unsqueeze(0)).to(vit.pos_embed.device)
    means, by_head = attention_maps(vit, inputs, layer)
    image = pixels.to_rgb(image)
    grid = [-(-s // vit.patch_size) for s in size]
    extra = vit.num_extra_tokens
    block = layer % len(vit.layers)
    panels = {
        f'rollout, blocks 0 to {len(means) - 1}': attention_rollout(means)[0],
        f'block {block}, mean of heads': means[layer][0],
    }
    for head in heads:
        panels[f'block {block}, head {head}'] = by_head[0, head]
    rows = -(-(len(panels) + 1) // COLUMNS)
    figure = Figure(
        figsize=(
            2 * COLUMNS,
            (2 * size[0] / size[1] + 0.5) * rows * len(points),
        ),
        layout='constrained',
    )
    axes = figure.subplots(rows * len(points), COLUMNS, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    axes = axes.reshape(len(points), -1)
    for line, (x, y), index in zip(axes, points, indices):
        show(line[0], image, f'the patch at {x}, {y}')
        line[0].plot(x, y, 'o', color='red', markeredgecolor='white')
        for axis, (title, weights) in zip(line[1:], panels.items()):
            seen = weights[extra + index, extra:].reshape(grid)
            show(axis, image.mean(dim=0, keepdim=True).expand(3, -1, -1))
            axis.set_title(title, fontsize=8)
            draw_shares(axis, 100 * seen, vit.patch_size)
    return figure


def draw_shares(axis: Axes, seen: Tensor, patch_size: int) -> None:
    """Paint shares of the attention over an image, with their scale.

    Args:
        axis: With the image.
        seen: Per cent, of each patch, (rows, columns).
        patch_size: Side of a patch.
    """
    height, width = axis.images[0].get_size()
    seen = F.interpolate(
        seen[None, None], scale_factor=patch_size, mode='bilinear'
    )[0, 0, :height, :width]
    # Of rollout most is in the patch itself: cut off the brightest.
    limit = seen.quantile(0.99).item()
    colors = axis.imshow(
        seen.cpu(), cmap='viridis', alpha=0.7, vmin=0, vmax=limit
    )
    scale = axis.figure.colorbar(
        colors,
        cax=axis.inset_axes((0.1, -0.11, 0.8, 0.05)),
        orientation='horizontal',
        ticks=[0, limit],
        extend='max',
    )
    scale.ax.set_xticklabels(['0', f'{limit:.2g} %'], fontsize=7)
    scale.ax.tick_params(length=0, pad=2)
    scale.outline.set_visible(False)
