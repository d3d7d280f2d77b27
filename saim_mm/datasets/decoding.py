"""Decoding an image as it is: any number of channels, any depth."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..utils.dependency import require
from .images import (
    check_pixels,
    check_regular,
    decode,
    jpeg_shape,
    png_header,
    read_file,
    read_header,
)
from .tiff import TIFF, TiffTags


def in_words(channels: int, dtype: str) -> str:
    """Channels and NumPy's name of their type, for messages."""
    return f'{channels} channel{"s" if channels > 1 else ""} of {dtype}'


@dataclass(frozen=True)
class Kind:
    """What the pixels of a file are.

    Attributes:
        height, width: In pixels, as they are stored.
        channels: Without transparency.
        dtype: NumPy's name.
        alpha: Whether a channel of transparency follows.
        stack: Whether the channels are pages of their own.
    """

    height: int
    width: int
    channels: int
    dtype: str = 'uint8'
    alpha: bool = False
    stack: bool = False

    @property
    def photo(self) -> bool:
        """Whether it is what models see as 8-bit RGB."""
        return (
            self.dtype == 'uint8'
            and self.channels in (1, 3)
            and not self.stack
        )

    def gives(self, channels: int) -> bool:
        """Whether it can be read as so many channels."""
        return (
            channels == self.channels
            or (self.alpha and channels == self.channels + 1)
            or (self.channels == 1 and channels == 3)
        )

    def __str__(self) -> str:
        return in_words(self.channels, self.dtype)


def read_kind(path: str | Path) -> Kind:
    """What the pixels of a file are: by its header, of JPEG and PNG.

    Raises:
        OSError: If it cannot be read, or is too large, see
            :func:`~saim_mm.datasets.images.check_pixels`.
    """
    check_regular(path)
    with open(path, 'rb') as file:
        start = file.read(26)
        png = png_header(start)
        if png is not None:
            width, height, depth, color = png
            check_pixels(start, (height, width))
            return Kind(
                height,
                width,
                1 if color == 0 else 3,
                'uint16' if depth == 16 else 'uint8',
                alpha=color >= 4,
            )
        if start.startswith(b'\xff\xd8'):
            header = read_header(file)
            width, height = header.size
            check_pixels(start, (height, width))
            return Kind(height, width, 1 if header.mode == 'L' else 3)
    content = read_file(str(path))
    tags = content.startswith(TIFF) and TiffTags.of(content)
    if tags and tags.alpha and tags.bits == 8:
        check_pixels(content, (tags.height, tags.width))
        return Kind(tags.height, tags.width, 3, alpha=True)
    return decode_any(content)[1]


def decode_any(content: bytes) -> tuple[np.ndarray, Kind]:
    """Decode an image as it is.

    The pages of a TIFF, if all are of one size and one channel, are channels;
    else the first is the image.

    Args:
        content: Of a file.

    Returns:
        (height, width, channels), of the file's type and order of channels,
        transparency the last; and what it is.

    Raises:
        OSError: If it cannot be decoded, or is too large.
        ImportError: If it takes ``tifffile``, which is not installed.
    """
    stack = False
    if content.startswith(TIFF):
        tags = TiffTags.of(content)
        shape = tags.height, tags.width
        values = tags.height * tags.width * tags.samples * tags.pages
        check_pixels(content, shape, values)
        alpha, pages = tags.alpha, decode_tiff(content, tags)
        kinds = {(page.shape, page.dtype) for page in pages}
        stack = len(pages) > 1 and len(kinds) == 1 and pages[0].shape[2] == 1
        image = np.concatenate(pages, axis=2) if stack else pages[0]
    else:
        check_pixels(content, jpeg_shape(content))
        # Of a JPEG also how it is to be turned.
        jpeg = content.startswith(b'\xff\xd8')
        flag = cv2.IMREAD_ANYCOLOR if jpeg else cv2.IMREAD_UNCHANGED
        image = to_rgb(decode(content, flag))
        alpha = image.shape[2] == 4
    height, width, channels = image.shape
    return image, Kind(
        height, width, channels - alpha, image.dtype.name, alpha, stack
    )


def to_rgb(image: np.ndarray) -> np.ndarray:
    """What OpenCV decodes as (height, width, channels), RGB of three."""
    image = np.atleast_3d(image)
    order = {3: [2, 1, 0], 4: [2, 1, 0, 3]}.get(image.shape[2])
    return image if order is None else image[..., order]


def decode_tiff(content: bytes, tags: TiffTags) -> list[np.ndarray]:
    """The pages of a TIFF that may be channels, else the first."""
    if tags.samples == 1 or (tags.color and tags.samples == 3):
        try:
            done, pages = cv2.imdecodemulti(
                np.frombuffer(content, np.uint8),
                cv2.IMREAD_UNCHANGED,
                range=(0, tags.pages),
            )
        except cv2.error as error:
            raise OSError(f'OpenCV: {str(error).strip()}') from error
        if not done or not pages:
            raise OSError('not an image OpenCV reads')
        return [to_rgb(page) for page in pages]
    # OpenCV would take some of these for one channel, or multiply by alpha.
    samples = tags.samples
    require('tifffile', needed_by=f'a TIFF of {samples} samples a pixel')
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            page = file.pages[0]
            image = page.asarray()
            if page.axes.startswith('S'):  # plane by plane
                image = image.transpose(1, 2, 0)
    except Exception as error:
        raise OSError(f'tifffile: {error}') from error
    return [image]
