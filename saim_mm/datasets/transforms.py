"""From files to crops: of photographs faster, of others at all."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS
from mmpretrain.datasets import RandomResizedCrop, ResizeEdge
from mmpretrain.registry import TRANSFORMS as MMPRETRAIN

from ..utils.check import check_arg, check_choice, check_positive_int
from .images import check_pixels, decode, jpeg_shape, read_file
from .pixels import PixelFormat, read_pixels

#: OpenCV's flags that decode a JPEG at 1 / 2, 1 / 4 or 1 / 8 of its size.
REDUCED = {
    8: cv2.IMREAD_REDUCED_COLOR_8,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    2: cv2.IMREAD_REDUCED_COLOR_2,
}


def resize(
    image: np.ndarray, size: Sequence[int], interpolation: str
) -> np.ndarray:
    """Resize an image by PyTorch, antialiased.

    Args:
        image: (height, width, channels), uint8 or float32.
        size: Height and width.
        interpolation: 'bicubic' or 'bilinear'.
    """
    pixels = torch.from_numpy(image)
    pixels = F.interpolate(
        pixels.permute(2, 0, 1).unsqueeze(0),  # (1, C, H, W)
        tuple(size),
        mode=interpolation,
        antialias=True,
    )
    return pixels[0].permute(1, 2, 0).numpy()


@TRANSFORMS.register_module()
class LoadRandomResizedCrop(RandomResizedCrop):
    """Load an image, cut a random box out and resize it.

    It does what ``LoadImageFromFile`` and a ``RandomResizedCrop`` with
    ``backend='pillow'`` do, with the same boxes for the same seed:

    - the resizing is PyTorch's antialiased one on 8-bit pixels, which is
      written to agree with Pillow's and is faster;
    - the box is drawn before a JPEG is decoded, and if it is more than twice
      as large as what is wanted, libjpeg decodes at a half, a quarter or an
      eighth of the size (by fewer coefficients of its blocks), never below
      ``reducing_gap`` times what is wanted.

    **Required key:** ``img_path``. **Added keys:** ``img`` (uint8, (height,
    width, 3), BGR), ``img_shape``, ``ori_shape``.

    Args:
        scale: Side, or height and width, in pixels.
        crop_ratio_range: Area of the box as a share of the image's. Defaults
            to (0.08, 1.0).
        aspect_ratio_range: Width by height of the box.
        interpolation: 'bicubic' or 'bilinear'.
        reducing_gap: At least 1; as Pillow's argument of that name.
            ``float('inf')`` always decodes at full size.
        backend_args: Of MMEngine's file backend.

    Raises:
        ValueError: If an argument is not as above.
        OSError: If a file is missing, not an image, a truncated JPEG, has more
            than 2**28 pixels or cannot be read.
    """

    interpolations = ('bicubic', 'bilinear')

    def __init__(
        self,
        scale: int | Sequence[int],
        crop_ratio_range: tuple[float, float] = (0.08, 1.0),
        aspect_ratio_range: tuple[float, float] = (3 / 4, 4 / 3),
        interpolation: str = 'bicubic',
        reducing_gap: float = 2.0,
        backend_args: dict | None = None,
    ) -> None:
        check_choice('interpolation', interpolation, self.interpolations)
        check_arg(
            reducing_gap >= 1, 'reducing_gap', reducing_gap, 'at least 1'
        )
        super().__init__(
            scale,
            crop_ratio_range,
            aspect_ratio_range,
            interpolation=interpolation,
        )
        self.reducing_gap = reducing_gap
        self.backend_args = backend_args

    def transform(self, results: dict) -> dict:
        """Load and crop.

        Args:
            results: With ``img_path``.

        Returns:
            With the keys added.
        """
        content = read_file(results['img_path'], self.backend_args)
        shape = jpeg_shape(content)
        check_pixels(content, shape)
        image = None
        if shape is None:  # not a JPEG
            image = decode(content, cv2.IMREAD_COLOR)
            shape = image.shape[:2]
        # The parent looks at the shape of what it is given, nothing else.
        box = self.rand_crop_params(np.broadcast_to(np.uint8(0), shape))
        if image is None:
            image = decode(content, self._flag(box[2:]))
        results['img'] = self._crop(image, shape, box)
        results['img_shape'] = results['img'].shape[:2]
        results['ori_shape'] = shape
        return results

    def _flag(self, crop: Sequence[int]) -> int:
        """OpenCV's flag for the smallest size that is large enough."""
        gap = min(c / s for c, s in zip(crop, self.scale)) / self.reducing_gap
        for factor, flag in REDUCED.items():
            if factor <= gap:
                return flag
        return cv2.IMREAD_COLOR

    def _crop(
        self, image: np.ndarray, shape: Sequence[int], box: Sequence[int]
    ) -> np.ndarray:
        """Cut a box of the full-sized image out, and resize it."""
        (top, bottom), (left, right) = (
            (
                round(start * decoded / full),
                round((start + length) * decoded / full),
            )
            for start, length, decoded, full in zip(
                box[:2], box[2:], image.shape, shape
            )
        )
        return resize(
            image[top:bottom, left:right], self.scale, self.interpolation
        )

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(scale={tuple(self.scale)}, '
            f'crop_ratio_range={self.crop_ratio_range}, '
            f'aspect_ratio_range={self.aspect_ratio_range}, '
            f'interpolation={self.interpolation!r}, '
            f'reducing_gap={self.reducing_gap})'
        )


@TRANSFORMS.register_module()
class LoadPixels(BaseTransform):
    """Load an image with its channels and its depth.

    **Required key:** ``img_path``. **Added keys:** ``img`` (uint8, or float32
    of other depths; (height, width, channels), in the file's order and units),
    ``img_shape``, ``ori_shape``.

    Args:
        channels: Of every image: those of a pixel, or the pages of a TIFF.
            Of three a greyscale image has its own three times.
        dtype: Of every file: 'uint8', 'uint16', 'float32' …

    Raises:
        ValueError: If a file cannot be read, or is of another kind.
    """

    def __init__(self, channels: int, dtype: str) -> None:
        check_positive_int('LoadPixels.channels', channels)
        check_arg(
            isinstance(dtype, str) and dtype in np.sctypeDict,
            'LoadPixels.dtype',
            dtype,
            "a type of NumPy's: 'uint8', 'uint16', 'float32'",
        )
        self.format = PixelFormat(channels, dtype)

    def transform(self, results: dict) -> dict:
        """Load what ``results['img_path']`` names."""
        results['img'] = read_pixels(results['img_path'], self.format)
        results['img_shape'] = results['img'].shape[:2]
        results['ori_shape'] = results['img'].shape[:2]
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(channels={self.format.channels}, '
            f'dtype={self.format.dtype!r})'
        )


@TRANSFORMS.register_module()
class PixelsRandomResizedCrop(RandomResizedCrop):
    """mmpretrain's, with the same boxes, for any channels and depth."""

    def transform(self, results: dict) -> dict:
        """Cut a random box out of ``results['img']`` and resize it."""
        image = results['img']
        top, left, height, width = self.rand_crop_params(image)
        results['img'] = resize(
            image[top : top + height, left : left + width],
            self.scale,
            self.interpolation,
        )
        results['img_shape'] = results['img'].shape[:2]
        return results


@TRANSFORMS.register_module()
class ResizeToCover(BaseTransform):
    """Resize an image, of whatever aspect, so that it covers a size.

    Args:
        size: Height and width.
        resize: The config of a ``ResizeEdge`` without ``scale`` and ``edge``.
    """

    def __init__(self, size: Sequence[int], resize: dict) -> None:
        self.size = tuple(size)
        self.sides = [
            MMPRETRAIN.build({**resize, 'edge': edge, 'scale': scale})
            for edge, scale in zip(('height', 'width'), self.size)
        ]

    def transform(self, results: dict) -> dict:
        """Resize ``results['img']``."""
        height, width = results['img'].shape[:2]
        by_width = self.size[1] * height > self.size[0] * width
        return self.sides[by_width](results)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(size={self.size})'


@TRANSFORMS.register_module()
class PixelsResizeEdge(ResizeEdge):
    """mmpretrain's, for any channels and depth."""

    def _resize_img(self, results: dict) -> None:
        size = results['scale'][::-1]  # height and width
        results['img'] = resize(results['img'], size, self.interpolation)
        results['img_shape'] = size
