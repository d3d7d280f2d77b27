"""Images of any number of channels and any depth.

Photographs are 8-bit RGB to every model of this package, whatever a file is.
Others (greyscale, 16 bit, stacks) keep their channels, in the file's order,
and their units; what these are, a :class:`PixelFormat` says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from ..utils.check import check_arg
from .decoding import Kind, decode_any, in_words
from .images import MEAN, STD, in_a_line, read_file, read_image

#: How many images mean and deviation are measured of, at most.
MEASURED = 2000


@dataclass(frozen=True)
class PixelFormat:
    """What images are to a model: stands in its config.

    Attributes:
        channels: Of an image.
        dtype: What files must hold, by NumPy's name. None: 8-bit RGB, to which
            images of any mode are converted.
        mean, std: Of each channel, in the files' units. Defaults to
            ImageNet's, RGB.
        shown: The channels that pictures show as red, green and blue. Defaults
            to the first three; of fewer than three the first, as grey.
    """

    channels: int = 3
    dtype: str | None = None
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    shown: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_arg(
            len(self.shown) in (0, 3)
            and all(0 <= x < self.channels for x in self.shown),
            'shown',
            self.shown,
            f'three channels, 0 to {self.channels - 1}',
        )

    @property
    def plain(self) -> bool:
        """Whether images are 8-bit RGB."""
        return self.dtype is None

    def __str__(self) -> str:
        """What is said of it behind "images", nothing of RGB."""
        return '' if self.plain else f', {in_words(self.channels, self.dtype)}'

    @property
    def loading(self) -> dict[str, Any]:
        """The transform that reads a file."""
        if self.plain:
            return dict(type='LoadImageFromFile')
        return dict(
            type='LoadPixels', channels=self.channels, dtype=self.dtype
        )

    def random_crop(self, **arguments: Any) -> dict[str, Any]:
        """The transform that cuts a random box out.

        Args:
            **arguments: Of mmpretrain's ``RandomResizedCrop``.
        """
        crop = dict(
            type='PixelsRandomResizedCrop',
            **arguments,
            interpolation='bicubic',
        )
        if self.plain:
            crop.update(type='RandomResizedCrop', backend='pillow')
        return crop

    def center_crop(self, height: int, width: int) -> list[dict[str, Any]]:
        """The transforms that cut the middle out, of nearly all."""
        resize = dict(type='PixelsResizeEdge', interpolation='bicubic')
        if self.plain:
            resize.update(type='ResizeEdge', backend='pillow')
        scale = [round(side * 256 / 224) for side in (height, width)]
        if height == width:
            return [
                {**resize, 'scale': scale[0]},
                dict(type='CenterCrop', crop_size=height),
            ]
        return [
            dict(type='ResizeToCover', size=scale, resize=resize),
            dict(type='CenterCrop', crop_size=(width, height)),
        ]

    @property
    def scaling(self) -> dict[str, Any]:
        """What a data preprocessor has to be told."""
        return dict(
            mean=list(self.mean),
            std=list(self.std),
            to_rgb=self.plain,
        )

    def normalize(self, images: Tensor) -> Tensor:
        """Pixels (B, C, H, W), RGB of three, as the backbone takes them."""
        mean, std = (
            images.new_tensor(x).view(-1, 1, 1) for x in (self.mean, self.std)
        )
        return (images - mean) / std

    def to_rgb(self, images: Tensor) -> Tensor:
        """Pixels ((B,) C, H, W) as those of a picture, RGB, 0 to 255.

        RGB stays as it is; of others black and white are 2.5 deviations from
        the mean.
        """
        if self.plain and not self.shown:
            return images
        shown = self.shown or ((0, 1, 2) if self.channels > 2 else (0, 0, 0))
        if not self.plain:
            images = 127.5 + 51 * self.normalize(images)
        return images[..., list(shown), :, :]


#: Photographs, normalised as ImageNet.
RGB = PixelFormat()


def image_settings(cfg: Mapping) -> tuple[Mapping, Mapping]:
    """Where a config says what its images are.

    Args:
        cfg: The whole config, of pre-training or of what follows it.

    Returns:
        Its ``LoadPixels``, empty if images are RGB; and its data preprocessor,
        empty if it has none.
    """
    dataset = (cfg.get('train_dataloader') or {}).get('dataset') or {}
    first = (dataset.get('pipeline') or [{}])[0]
    if not isinstance(first, Mapping) or first.get('type') != 'LoadPixels':
        first = {}
    preprocessor = (
        (cfg.get('model') or {}).get('data_preprocessor')
        or cfg.get('data_preprocessor')
        or {}
    )
    return first, preprocessor


def pixel_format(cfg: Mapping) -> PixelFormat:
    """What images are to the model of a config, see :func:`image_settings`."""
    first, preprocessor = image_settings(cfg)
    return PixelFormat(
        first.get('channels', 3),
        first.get('dtype'),
        tuple(preprocessor.get('mean') or MEAN),
        tuple(preprocessor.get('std') or STD),
    )


def read_pixels(
    image: str | Path | Image.Image | np.ndarray, pixels: PixelFormat
) -> np.ndarray:
    """Read an image as a model takes it.

    Args:
        image: A file, a PIL image, or an array: of RGB as for
            :func:`~saim_mm.datasets.images.read_image`; else of the format's
            type, (height, width, channels), RGB if of three.

    Returns:
        (height, width, channels): uint8, BGR, of RGB; of other formats uint8
        or float32.

    Raises:
        ValueError: If it cannot be read, or is of another kind.
    """
    if pixels.plain:
        return read_image(image)
    if isinstance(image, (Image.Image, np.ndarray)):
        array = np.atleast_3d(np.asarray(image))
        what = f'array of {array.dtype}, {array.shape}'
        if array.ndim != 3:
            raise ValueError(f'{what}: must be (height, width, channels)')
        kind = Kind(*array.shape, array.dtype.name)
    else:
        what = str(image)
        try:
            array, kind = decode_any(read_file(what))
        except Exception as error:  # of several libraries
            raise ValueError(
                f'{what}: must be a readable image file{pixels} '
                f'({in_a_line(str(error))})'
            ) from error
    check_kind(kind, pixels, what)
    if kind.channels == 1 and pixels.channels == 3:
        array = array.repeat(3, axis=2)
    array = array[..., : pixels.channels]
    if array.dtype != np.uint8:
        array = array.astype(np.float32)
        if not np.isfinite(array).all():
            raise ValueError(f'{what}: holds numbers that are not finite')
    return np.ascontiguousarray(array)


def check_kind(kind: Kind, pixels: PixelFormat, what: str) -> None:
    """Refuse an image of another kind."""
    fits = kind.gives(pixels.channels)
    if pixels.plain:  # of any depth
        fits, wanted = fits and not kind.stack, 'an RGB or greyscale image'
    else:
        fits = fits and kind.dtype == pixels.dtype
        wanted = f'{pixels.channels} of {pixels.dtype}'
    if not fits:
        raise ValueError(
            f'{what}: has {kind}, and must be {wanted}, as the model is '
            'trained on'
        )


def check_kinds(
    found: Sequence[tuple[Path, Kind]], pixels: PixelFormat
) -> None:
    """Refuse images of another kind than a model was trained on.

    Args:
        found: Files, and what they are.

    Raises:
        ValueError: Naming the first.
    """
    for path, kind in found:
        check_kind(kind, pixels, str(path))


def choose_format(
    found: Sequence[tuple[Path, Kind]],
    files: Sequence[Path],
    channels: int | None,
    data: str,
) -> PixelFormat:
    """What a folder's images are, and mean and deviation if not RGB's.

    Args:
        found: Some of the files, and what they are.
        files: All of them.
        channels: What is asked for: three are RGB's, of 8 bit if the files
            are, or differ in depth, and a single one is repeated. None: as
            many as all have; of 8-bit images, and of those of several depths,
            three, unless all are grey of one depth.
        data: The folder, for errors.

    Raises:
        ValueError: If files differ, or have not as many channels.
    """
    path, first = found[0]
    kinds = [kind for _, kind in found]
    photos = all(kind.photo for kind in kinds)
    same_depth = len({kind.dtype for kind in kinds}) == 1
    plain = all(kind.gives(3) and not kind.stack for kind in kinds)
    exact = channels is None and not photos
    remedy = ', or set channels=3 (--channels 3) to make RGB of all'
    if channels is None:
        gray = all(kind.channels == 1 for kind in kinds)
        mixed = plain and not same_depth
        channels = 3 if mixed or (photos and not gray) else first.channels
    if channels == 3 and (photos or (plain and not same_depth)):
        return RGB
    for other, kind in found:
        check_arg(
            kind.dtype == first.dtype
            and (kind.channels == first.channels or not exact),
            'data',
            data,
            f'a folder of images of one kind, but {path} has {first}, and '
            f'{other} has {kind}; give each kind a folder of its own'
            f'{remedy if plain else ""}',
        )
        check_arg(
            kind.gives(channels),
            'channels',
            channels,
            f'what the images have: {other} has {kind}',
        )
    mean, std = measure(files, channels, first.dtype)
    return PixelFormat(channels, first.dtype, mean, std)


def measure(
    files: Sequence[Path], channels: int, dtype: str
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel, over all pixels of many files.

    Of more than :data:`MEASURED` files as many are read, evenly spaced; what
    cannot be read is left out. Six digits are kept; a channel that is the same
    everywhere has deviation 1.

    Raises:
        ValueError: If none can be read.
    """
    pixels = PixelFormat(channels, dtype)
    step = max(1, -(-len(files) // MEASURED))
    number, mean, squares = 0, np.zeros(channels), np.zeros(channels)
    reason = None
    for file in files[::step]:
        try:
            image = read_pixels(file, pixels)
        except ValueError as error:
            reason = error
            continue
        # A channel at a time: images may be large.
        parts = [image[..., channel] for channel in range(channels)]
        own, variance = (
            np.array([function(part, dtype=np.float64) for part in parts])
            for function in (np.mean, np.var)
        )
        # Chan et al. 1979: a part joined to what there is.
        more = parts[0].size
        share = more / (number + more)
        squares += variance * more
        squares += (own - mean) ** 2 * number * share
        mean += (own - mean) * share
        number += more
    if not number:
        raise ValueError(f'none of {len(files)} images can be read: {reason}')
    std = np.sqrt(squares / number)
    std[std == 0] = 1
    return tuple(
        tuple(float(f'{value:.6g}') for value in values)
        for values in (mean, std)
    )
