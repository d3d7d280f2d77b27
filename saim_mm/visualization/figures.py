"""What the pictures share: images in, figures out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageOps
from torch import Tensor

from ..datasets.images import read_image
from ..datasets.pixels import RGB, PixelFormat, read_pixels
from ..datasets.transforms import resize
from ..utils.check import check_arg


def load_images(
    paths: Sequence[str],
    size: tuple[int, int],
    pixels: PixelFormat = RGB,
    whole: bool = False,
) -> Tensor:
    """Load images, cut and scaled to a size.

    Args:
        size: Height and width in pixels.
        pixels: What they are.
        whole: Squeeze them rather than cut off what is beside the middle.

    Returns:
        float32, (B, C, H, W): RGB, 0 to 255, or in the files' units.

    Raises:
        ValueError: If a file is no image.
    """
    images = []
    for path in paths:
        if pixels.plain:
            image = np.ascontiguousarray(read_image(path)[..., ::-1])
            picture = Image.fromarray(image)
            scale = Image.Image.resize if whole else ImageOps.fit
            bicubic = Image.Resampling.BICUBIC
            image = np.array(scale(picture, size[::-1], bicubic))
        else:
            image = read_pixels(path, pixels)
            image = (
                resize(image, size, 'bicubic') if whole else fit(image, size)
            )
        images.append(torch.from_numpy(image).permute(2, 0, 1))
    return torch.stack(images).float()


def fit(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pillow's ``ImageOps.fit`` for any number of channels and any depth."""
    sides = image.shape[:2]
    scale = min(side / new for side, new in zip(sides, size))
    kept = [max(1, round(new * scale)) for new in size]
    rows, columns = (
        slice((side - length) // 2, (side - length) // 2 + length)
        for side, length in zip(sides, kept)
    )
    return resize(image[rows, columns], size, 'bicubic')


def to_array(picture: Tensor) -> np.ndarray:
    """Pixels (3, H, W), 0 to 255, as uint8, (H, W, 3)."""
    return picture.detach().cpu().permute(1, 2, 0).clamp(0, 255).byte().numpy()


def figure_to_array(figure: Figure) -> np.ndarray:
    """A figure as pixels.

    Args:
        figure: The figure, drawn at its own resolution.

    Returns:
        RGB, uint8, (height, width, 3).
    """
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def show(axis: Axes, picture: Tensor, title: str = '') -> None:
    """Show pixels (3, H, W), 0 to 255, without ticks and frame."""
    axis.imshow(to_array(picture), interpolation='nearest')
    axis.set_title(title, fontsize=8)
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


def label_row(axis: Axes, title: str) -> None:
    """Say beside the first picture of a row what the row is."""
    axis.set_ylabel(title, rotation=0, ha='right', va='center', fontsize=9)


def point_to_patch(
    point: tuple[int, int], size: tuple[int, int], patch_size: int
) -> int:
    """The raster index of the patch that a point is in.

    Args:
        point: x and y in pixels.
        size: Height and width of the image.
        patch_size: Side of a patch.

    Raises:
        ValueError: If the point is outside the image.
    """
    (x, y), (height, width) = point, size
    check_arg(
        0 <= x < width and 0 <= y < height,
        'point',
        (x, y),
        f'within the image: x 0 to {width - 1}, y 0 to {height - 1}',
    )
    return y // patch_size * -(-width // patch_size) + x // patch_size
