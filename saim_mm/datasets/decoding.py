"""Decoding an image as it is: any number of channels, any depth."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin

from ..utils.alone import ALONE
from ..utils.dependency import require
from .images import check_pixels, check_regular, jpeg_shape, read_file

TIFF = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
PNG = b'\x89PNG\r\n\x1a\n'
#: TIFF's tags, and values of them.
WIDTH, HEIGHT, BITS = 256, 257, 258
PHOTOMETRIC, SAMPLES, EXTRA_SAMPLES = 262, 277, 338
COLORS = (2, 3, 6)  # RGB, a palette, YCbCr
ALPHA = (1, 2)


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
        OSError: If it cannot be read.
    """
    check_regular(path)
    with open(path, 'rb') as file:
        start = file.read(26)
    if not start.startswith((b'\xff\xd8', PNG)):
        content = read_file(str(path))
        tags = content.startswith(TIFF) and TiffTags.of(content)
        if tags and tags.alpha and tags.bits == 8:
            return Kind(tags.height, tags.width, 3, alpha=True)
        return decode_any(content)[1]
    with ALONE, warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of Pillow, on large ones
        with Image.open(path) as image:
            width, height = image.size
            gray = image.mode == 'L'
    if not start.startswith(PNG):
        return Kind(height, width, 1 if gray else 3)
    depth, color = start[24:26]
    return Kind(
        height,
        width,
        1 if color == 0 else 3,
        'uint16' if depth == 16 else 'uint8',
        alpha=color >= 4,
    )


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
        OSError: If it cannot be decoded.
        ImportError: If it takes ``tifffile``, which is not installed.
    """
    stack = False
    if content.startswith(TIFF):
        tags = TiffTags.of(content)
        check_pixels(content, (tags.height, tags.width))
        alpha, pages = tags.alpha, decode_tiff(content, tags)
        kinds = {(page.shape, page.dtype) for page in pages}
        stack = len(pages) > 1 and len(kinds) == 1 and pages[0].shape[2] == 1
        image = np.concatenate(pages, axis=2) if stack else pages[0]
    else:
        check_pixels(content, jpeg_shape(content))
        # Of a JPEG also how it is to be turned.
        jpeg = content.startswith(b'\xff\xd8')
        flag = cv2.IMREAD_ANYCOLOR if jpeg else cv2.IMREAD_UNCHANGED
        (image,) = decode_all(content, flag)[:1]
        alpha = image.shape[2] == 4
    height, width, channels = image.shape
    return image, Kind(
        height, width, channels - alpha, image.dtype.name, alpha, stack
    )


def decode_all(content: bytes, flag: int) -> list[np.ndarray]:
    """All pages by OpenCV, (height, width, channels), RGB."""
    try:
        done, pages = cv2.imdecodemulti(np.frombuffer(content, np.uint8), flag)
    except cv2.error as error:
        raise OSError(f'OpenCV: {str(error).strip()}') from error
    if not done or not pages:
        raise OSError('not an image OpenCV reads')
    pages = [np.atleast_3d(page) for page in pages]
    order = {3: [2, 1, 0], 4: [2, 1, 0, 3]}
    return [
        page[..., order[page.shape[2]]] if page.shape[2] in order else page
        for page in pages
    ]


@dataclass(frozen=True)
class TiffTags:
    """What the first page of a TIFF says of itself."""

    height: int
    width: int
    samples: int
    bits: int
    color: bool
    alpha: bool

    @classmethod
    def of(cls, content: bytes) -> TiffTags:
        """Read them.

        Raises:
            OSError: If they cannot be read.
        """
        try:
            # Pillow's reader of tags; of pixels it knows fewer kinds.
            stream = io.BytesIO(content)
            header = stream.read(8)
            if header[2] == 43:  # larger than 4 GiB
                header += stream.read(8)
            tags = TiffImagePlugin.ImageFileDirectory_v2(header)
            stream.seek(tags.next)
            with ALONE, warnings.catch_warnings():
                warnings.simplefilter('ignore')  # of damage
                tags.load(stream)
            samples = int(tags.get(SAMPLES, 1))
            color = tags.get(PHOTOMETRIC) in COLORS
            extra = tags.get(EXTRA_SAMPLES, (0,))[0]
            return cls(
                int(tags[HEIGHT]),
                int(tags[WIDTH]),
                samples,
                int(tags.get(BITS, (1,))[0]),
                color and samples <= 4,
                color and samples == 4 and extra in ALPHA,
            )
        except Exception as error:
            raise OSError(f'a damaged TIFF ({error})') from error


def decode_tiff(content: bytes, tags: TiffTags) -> list[np.ndarray]:
    """The pages of a TIFF; of one of several samples the first."""
    if tags.samples == 1 or (tags.color and tags.samples == 3):
        return decode_all(content, cv2.IMREAD_UNCHANGED)
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
