"""BatchRandomResizedCrop: crops and flips of a whole batch, on its device."""

from __future__ import annotations

import math

import torch
from mmengine.dist import get_dist_info
from torch import Tensor, nn

from ..utils.check import check_arg

#: Boxes drawn for an image, of which the first that fits is taken.
ATTEMPTS = 10


class BatchRandomResizedCrop(nn.Module):
    """Cut a random box out of each image and resize it to the image's size.

    mmpretrain's ``RandomResizedCrop`` and ``RandomFlip`` for images of tens of
    pixels: boxes of the same distribution, Pillow's bicubic resizing (of all
    images by two products with matrices), 8-bit pixels.

    In distributed training it draws for the images of all processes, as
    orders are drawn.

    Args:
        crop_ratio_range: Area of the box as a share of the image's.
        aspect_ratio_range: Width by height of the box.
        flip_prob: Probability of a flip from left to right.

    Raises:
        ValueError: If an argument is not as above.
    """

    def __init__(
        self,
        crop_ratio_range: tuple[float, float] = (0.08, 1.0),
        aspect_ratio_range: tuple[float, float] = (3 / 4, 4 / 3),
        flip_prob: float = 0.5,
    ) -> None:
        super().__init__()
        for name, bounds, highest in (
            ('crop_ratio_range', crop_ratio_range, 1),
            ('aspect_ratio_range', aspect_ratio_range, math.inf),
        ):
            check_arg(
                len(bounds) == 2 and 0 < bounds[0] <= bounds[1] <= highest,
                f'data_preprocessor.random_crop.{name}',
                bounds,
                'the least and the most, above 0'
                + (' and at most 1' if highest == 1 else ''),
            )
        check_arg(
            0 <= flip_prob <= 1,
            'data_preprocessor.random_crop.flip_prob',
            flip_prob,
            'a probability, 0 to 1',
        )
        self.crop_ratio_range = tuple(crop_ratio_range)
        self.aspect_ratio_range = tuple(aspect_ratio_range)
        self.flip_prob = flip_prob

    def forward(self, images: Tensor) -> Tensor:
        """Crop and flip.

        Args:
            images: (B, C, H, W), uint8.

        Returns:
            (B, C, H, W), float32, whole numbers from 0 to 255.
        """
        height, width = images.shape[2:]
        rank, processes = get_dist_info()
        draws = torch.rand(
            (2 * ATTEMPTS + 3, len(images) * processes), device=images.device
        )[:, rank::processes]
        top, left, rows, columns = self.boxes(draws[1:], height, width)
        down = resizing(top, rows, height)  # (B, H, H)
        across = resizing(left, columns, width)  # (B, W, W)
        flipped = (draws[0] < self.flip_prob).view(-1, 1, 1)
        across = torch.where(flipped, across.flip(1), across)
        # Training calls this in autocast.
        with torch.autocast(images.device.type, enabled=False):
            images = to_8_bit(images.float() @ across.mT.unsqueeze(1))
            return to_8_bit(down.unsqueeze(1) @ images)

    def boxes(
        self, draws: Tensor, height: int, width: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Random boxes, as mmpretrain's ``RandomResizedCrop`` draws them.

        Args:
            draws: (2 * ATTEMPTS + 2, B), uniform in [0, 1).
            height, width: Of the images.

        Returns:
            Top, left, height and width in pixels, (B,) each.
        """
        low, high = self.crop_ratio_range
        area = height * width * (low + (high - low) * draws[:ATTEMPTS])
        low, high = (math.log(x) for x in self.aspect_ratio_range)
        ratio = (low + (high - low) * draws[ATTEMPTS:-2]).exp()
        rows = (area / ratio).sqrt().round()
        columns = (area * ratio).sqrt().round()
        fits = (rows > 0) & (rows <= height)
        fits &= (columns > 0) & (columns <= width)
        # None fits: the largest box in the middle.
        shape = min(max(width / height, math.exp(low)), math.exp(high))
        largest = (
            min(height, max(1, round(width / shape))),
            min(width, max(1, round(height * shape))),
        )
        first = fits.int().argmax(0, keepdim=True)
        rows, columns = (
            torch.where(fits.any(0), drawn.gather(0, first)[0], middle)
            for drawn, middle in zip((rows, columns), largest)
        )
        top, left = (
            torch.where(
                fits.any(0),
                (drawn * (whole - side + 1)).floor(),
                ((whole - side) / 2).floor(),
            )
            for drawn, whole, side in (
                (draws[-2], height, rows),
                (draws[-1], width, columns),
            )
        )
        return top, left, rows, columns


def to_8_bit(pixels: Tensor) -> Tensor:
    """Round as Pillow does, in place: halves up, 0 to 255."""
    return pixels.add_(0.5).floor_().clamp_(0, 255)


def resizing(start: Tensor, length: Tensor, size: int) -> Tensor:
    """Matrices that resize a part of each line to the line's length.

    Pillow's weights: Keys' cubic kernel with a = -0.5 (Keys 1981), of pixels
    within the part alone. (A part is never made smaller.)

    Args:
        start, length: (B,), the part, in pixels.
        size: Of a line, and of the result.

    Returns:
        (B, size, size), float32, rows that sum to one.
    """
    start, length = start.view(-1, 1, 1), length.view(-1, 1, 1)
    pixel = torch.arange(size, device=start.device) + 0.5
    center = start + length / size * pixel.view(-1, 1)  # (B, size, 1)
    x = (pixel - center).abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    weights = torch.where(x < 1, near, torch.where(x < 2, far, 0))
    inside = (pixel > start) & (pixel < start + length)
    weights = weights * inside
    return weights / weights.sum(-1, keepdim=True)
