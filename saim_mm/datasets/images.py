"""Finding and reading pictures of any kind."""

from __future__ import annotations

import io
import os
import struct
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import cv2
import mmengine.fileio as fileio
import numpy as np
from PIL import Image, UnidentifiedImageError

from ..utils.alone import ALONE
from .tiff import TIFF, TiffTags

EXTENSIONS = (
    '.jpg',
    '.jpeg',
    '.jpe',
    '.jfif',
    '.png',
    '.bmp',
    '.tif',
    '.tiff',
    '.webp',
    '.ppm',
    '.pgm',
)
#: Of images that are not read.
OTHERS = (
    '.heic',
    '.heif',
    '.avif',
    '.gif',
    '.jxl',
    '.jp2',
    '.psd',
    '.svg',
    '.dng',
    '.cr2',
    '.cr3',
    '.nef',
    '.arw',
    '.orf',
    '.raf',
    '.rw2',
)

#: Of ImageNet, RGB, 0 to 255: what every config normalises with.
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)


def is_hidden(name: str) -> bool:
    """Whether a file or folder is none of the user's images, by its name.

    At the root of a disk lies lost+found, which root alone may read.
    """
    return name.startswith('.') or name == 'lost+found'


def walk(folder: str | Path, above: tuple[str, ...] = ()) -> Iterator[str]:
    """Every file in a folder and its sub-folders; hidden ones are left out.

    Links to folders are followed, but into one that they lie in; what is
    neither folder nor file (a pipe, a link to itself) is for who reads it.

    Args:
        above: The real paths of those that it lies in.

    Yields:
        Paths that begin with ``folder``.
    """
    real = os.path.realpath(folder)
    if real in above:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_hidden(entry.name):
                continue
            try:
                is_folder = entry.is_dir()
            except OSError:  # a link to itself
                is_folder = False
            if is_folder:
                yield from walk(entry.path, (*above, real))
            else:
                yield entry.path


def find_images(folder: Path) -> list[Path]:
    """The images in a folder and its sub-folders, by their names, sorted."""
    paths = map(Path, walk(folder))
    return sorted(path for path in paths if path.suffix.lower() in EXTENSIONS)


def left_out(folder: Path) -> str:
    """The images of kinds that are not read, as words; '' if none is there."""
    suffixes = (Path(path).suffix.lower() for path in walk(folder))
    found = Counter(suffix for suffix in suffixes if suffix in OTHERS)
    kinds = ', '.join(f'{n:,} {suffix}' for suffix, n in sorted(found.items()))
    return f'{kinds} left out: convert them to .jpg or .png' if found else ''


def in_a_line(text: str) -> str:
    """Text for a line of a log, whatever a file is called.

    Line breaks and what is not UTF-8 are written as Python's escapes.
    """
    text = text.encode('utf-8', 'backslashreplace').decode()
    return ''.join(
        c if c.isprintable() else c.encode('unicode_escape').decode()
        for c in text
    )


def check_regular(path: str | Path) -> None:
    """Refuse a pipe or a device: reading one might never end.

    Raises:
        OSError: If it is there, and no file.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError('not a regular file')


def read_file(path: str, backend_args: dict | None = None) -> bytes:
    """Read a file; once more if the storage fails.

    Args:
        path: The file, a regular one, or an address of a file backend.
        backend_args: Of MMEngine's file backend.

    Raises:
        OSError: If it cannot be read.
    """
    if '://' not in path:
        check_regular(path)
    try:
        return fileio.get(path, backend_args)
    except (FileNotFoundError, PermissionError):
        raise
    except OSError:
        time.sleep(1)
        return fileio.get(path, backend_args)


def read_image(image: str | Path | Image.Image | np.ndarray) -> np.ndarray:
    """Read an image of any mode.

    Args:
        image: A file, a PIL image, or an array, which is returned as it is.

    Returns:
        uint8, (height, width, 3), BGR.

    Raises:
        ValueError: If it is not an image, or one that ends too early.
    """
    if isinstance(image, Image.Image):
        return np.asarray(image.convert('RGB'))[..., ::-1]
    if isinstance(image, np.ndarray):
        if (image.dtype, image.shape[2:]) == (np.uint8, (3,)):
            return image
        what, reason = f'array of {image.dtype}, {image.shape}', ''
    else:
        try:
            content = read_file(str(image))
            check_pixels(content, jpeg_shape(content))
            return decode(content, cv2.IMREAD_COLOR)
        except Exception as error:  # Pillow's and OpenCV's are many
            what, reason = str(image), f' ({in_a_line(str(error))})'
    raise ValueError(
        f'{what}: must be a readable image file, or an array of uint8, '
        f'(height, width, 3){reason}'
    )


EXIF_ORIENTATION = 0x0112
#: A PNG begins so: with its header.
PNG = b'\x89PNG\r\n\x1a\n\0\0\0\rIHDR'


#: More pixels are taken for a decompression bomb.
MAX_PIXELS = 2**28


def read_header(stream: BinaryIO) -> Image.Image:
    """An image of which nothing is decoded, however large.

    Pillow has a limit of its own, two thirds of ``MAX_PIXELS``.
    """
    with ALONE:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(stream)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def jpeg_shape(content: bytes) -> tuple[int, int] | None:
    """Height and width of a JPEG as it is shown, from its header.

    Returns:
        None if it is no JPEG.

    Raises:
        OSError: If the JPEG has no end.
    """
    if not content.startswith(b'\xff\xd8'):
        return None
    stream = io.BytesIO(content)
    try:
        header = read_header(stream)
    except UnidentifiedImageError:
        raise OSError('a JPEG without a readable header') from None
    # Pillow has read up to the pixels. A marker that they cannot contain ends
    # them, and most files; OpenCV would show grey for what is missing.
    end = b'\xff\xd9'
    if not content.endswith(end) and content.find(end, stream.tell()) < 0:
        raise OSError('a truncated JPEG')
    return shown_shape(header)


def shown_shape(header: Image.Image) -> tuple[int, int]:
    """Height and width as OpenCV decodes an image."""
    width, height = header.size
    # Orientations 5 to 8 are turned by a quarter.
    turned = header.format in ('JPEG', 'MPO') and (
        exif_orientation(header) in range(5, 9)
    )
    return (width, height) if turned else (height, width)


def exif_orientation(header: Image.Image) -> int:
    """How a JPEG is to be turned, as OpenCV reads it.

    Pillow's ``getexif`` would look into XMP too.
    """
    exif = Image.Exif()
    try:
        exif.load(header.info.get('exif', b''))
        return exif.get(EXIF_ORIENTATION, 1)
    except Exception:  # damaged, however
        return 1


def png_header(content: bytes) -> tuple[int, int, int, int] | None:
    """Width, height, depth and kind of colour of a PNG; None if it is none.

    Pillow reads on, and may fail at what OpenCV passes by.
    """
    if not content.startswith(PNG) or len(content) < 26:
        return None
    return struct.unpack('>IIBB', content[16:26])


def stored_shape(content: bytes) -> tuple[int, int] | None:
    """Height and width from a header; None if only OpenCV may know them.

    Raises:
        OSError: If it is a damaged TIFF.
    """
    png = png_header(content)
    if png is not None:
        return png[1], png[0]
    if content.startswith(TIFF):
        tags = TiffTags.of(content)
        return tags.height, tags.width
    try:
        return read_header(io.BytesIO(content)).size[::-1]
    except (OSError, ValueError, SyntaxError):
        return None


def check_pixels(
    content: bytes, shape: tuple[int, int] | None, values: int = 0
) -> None:
    """Refuse an image that would fill the memory, before it is decoded.

    Args:
        shape: Its size, if it is known.
        values: How many numbers are decoded, of all channels and pages.

    Raises:
        OSError: If it has more than ``MAX_PIXELS``, or four times as many
            values.
    """
    height, width = shape or stored_shape(content) or (0, 0)
    for number, unit, most in (
        (height * width, 'pixels', MAX_PIXELS),
        (values, 'values', 4 * MAX_PIXELS),
    ):
        if number > most:
            raise OSError(
                f'{number:,} {unit}: more than {most:,}, which is taken for a '
                'decompression bomb'
            )


def decode(content: bytes, flag: int) -> np.ndarray:
    """Decode an image with OpenCV.

    Args:
        flag: How: one of OpenCV's ``IMREAD_*``.

    Returns:
        As the flag says: of ``IMREAD_COLOR`` uint8, (height, width, 3), BGR.

    Raises:
        OSError: If OpenCV cannot.
    """
    image = None
    if content:
        try:
            image = cv2.imdecode(np.frombuffer(content, np.uint8), flag)
        except cv2.error as error:
            raise OSError(f'OpenCV: {str(error).strip()}') from error
    if image is None:
        raise OSError(
            'an empty file' if not content else 'not an image OpenCV reads'
        )
    return image
