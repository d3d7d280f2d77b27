"""The prediction order, and an image completed in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor

from ..datasets.pixels import RGB, PixelFormat
from ..models.order import PredictionOrder, literal_masks
from ..models.saim import SAIM
from ..models.target import patchify, pixel_target, unpatchify
from ..utils.check import check_arg
from .figures import point_to_patch, show, to_array
from .reconstruction import denormalize, normalize


def draw_order(
    order: PredictionOrder,
    image: Tensor,
    patch_size: int,
    point: tuple[int, int],
) -> Figure:
    """Draw an order, its masks and what a patch may see (Fig. 5).

    Args:
        order: Of one image.
        image: Pixels, RGB, 0 to 255, (3, H, W).
        patch_size: Side of a patch; divides H and W.
        point: x and y, in pixels, of the patch.

    Returns:
        Four pictures.

    Raises:
        ValueError: If the point is outside the image.
    """
    size = tuple(image.shape[1:])
    rows, columns = (s // patch_size for s in size)
    index = point_to_patch(point, size, patch_size)
    content, query = (mask[0].cpu() for mask in literal_masks(order))
    step = order.indices[0].argsort().cpu()
    figure = Figure(figsize=(6.2, 6.6), layout='constrained')
    axes = figure.subplots(2, 2).flatten()

    show(axes[0], image, 'the order: dark first, yellow last')
    edges = (-0.5, size[1] - 0.5, size[0] - 0.5, -0.5)
    axes[0].imshow(
        step.reshape(rows, columns), cmap='viridis', alpha=0.7, extent=edges
    )
    if rows * columns <= 144:
        for i, number in enumerate(step.tolist()):
            axes[0].text(
                (i % columns + 0.5) * patch_size - 0.5,
                (i // columns + 0.5) * patch_size - 0.5,
                number + 1,
                ha='center',
                va='center',
                color='white' if number < 0.7 * rows * columns else 'black',
                fontsize=7,
            )
    for axis, mask, title in (
        (
            axes[2],
            content,
            'content mask; white: patch i sees j,\nitself included',
        ),
        (
            axes[3],
            query,
            'query mask; white: i is predicted from j,\nitself excluded',
        ),
    ):
        axis.imshow(mask, cmap='gray', interpolation='nearest')
        axis.set_title(title, fontsize=8)
        axis.set_xlabel('patch j, row by row', fontsize=8)
        axis.set_ylabel('patch i, row by row', fontsize=8)
        axis.tick_params(labelsize=7)
    seen = query[index].reshape(rows, columns)
    seen = seen.repeat_interleave(patch_size, 0)
    seen = seen.repeat_interleave(patch_size, 1)
    show(
        axes[1],
        torch.where(seen, image.cpu(), torch.full_like(image.cpu(), 220)),
        f'patch {step[index] + 1} of {rows * columns} (red) is predicted\n'
        'from those shown and the class token',
    )
    y, x = (n * patch_size - 0.5 for n in divmod(index, columns))
    axes[1].add_patch(
        Rectangle((x, y), patch_size, patch_size, fill=False, ec='red', lw=2)
    )
    return figure


@torch.no_grad()
def generate(
    model: SAIM,
    image: Tensor,
    order: PredictionOrder,
    given: int,
    pixels: PixelFormat = RGB,
) -> Iterator[Tensor]:
    """Complete an image from its first patches, one patch after the other.

    Every prediction is the context of those after it. A model that is trained
    on normalised patches predicts neither their mean nor their contrast;
    these are then taken from the image (so it is no free generation).

    Args:
        model: The model, in evaluation mode.
        image: One of :func:`~.figures.load_images`, (C, H, W).
        order: Of the one image.
        given: How many patches are known, 0 to L.
        pixels: What the image is.

    Yields:
        Tensor: Pixels as in ``image``, grey where nothing is yet; first with
        the patches given, then with one more each time.

    Raises:
        ValueError: If ``given`` is not as above, or the model predicts no
            pixels.
    """
    target = pixel_target(model)
    size = target.patch_size
    inputs = normalize(model, image.unsqueeze(0))
    patches = patchify(inputs, size)
    number = patches.shape[1]
    check_arg(
        0 <= given <= number, 'given', given, f'0 to {number}, the patches'
    )
    check_arg(
        order.predicted == number, 'order.prefix', order.prefix, '0, none'
    )
    if target.normalize:
        patch_mean, patch_std = target.statistics(
            patchify(target.blur(inputs), size)
        )
    gray = torch.zeros_like(inputs)  # the mean
    if pixels.plain:
        gray = normalize(model, torch.full_like(inputs, 127.5))
    gray = patchify(gray, size)
    steps = order.indices[0].tolist()
    canvas = gray.clone()
    for i in steps[:given]:
        canvas[:, i] = patches[:, i]

    def picture() -> Tensor:
        whole = unpatchify(canvas, size, model.backbone.patch_resolution)
        return denormalize(model, whole)[0]

    yield picture()
    for step in range(given, number):
        whole = unpatchify(canvas, size, model.backbone.patch_resolution)
        predicted = model.predict_patches(whole, order)[:, step]
        i = steps[step]
        if target.normalize:
            predicted = predicted * patch_std[:, i] + patch_mean[:, i]
        canvas[:, i] = predicted
        yield picture()


def save_generation(
    path: str | Path,
    model: SAIM,
    image: Tensor,
    order: PredictionOrder,
    given: int,
    pixels: PixelFormat = RGB,
) -> None:
    """Write an animated GIF of :func:`generate`, at its end the original.

    Args:
        path: The file. Its folder is made.
        model, image, order, given, pixels: As for :func:`generate`.

    Raises:
        ValueError: As :func:`generate`.
    """
    frames = [*generate(model, image, order, given, pixels), image]
    frames = [to_array(pixels.to_rgb(x)) for x in frames]
    scale = max(1, 224 // max(image.shape[1:]))
    frames = [
        Image.fromarray(x.repeat(scale, 0).repeat(scale, 1)) for x in frames
    ]
    milliseconds = max(20, 5000 // len(frames))
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    frames[0].save(
        path,
        save_all=True,
        append_images=frames[1:],
        duration=[milliseconds] * (len(frames) - 2) + [1500, 1500],
        loop=0,
    )
