"""What a TIFF says of its pages, before any of them is decoded.

Read as OpenCV reads it, which decodes: Pillow stops at damage that OpenCV
passes by, and of equal tags takes another, so pages would not be counted.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

TIFF = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
#: Tags, and values of them.
WIDTH, HEIGHT, BITS = 256, 257, 258
PHOTOMETRIC, SAMPLES, EXTRA_SAMPLES = 262, 277, 338
TAGS = (WIDTH, HEIGHT, BITS, PHOTOMETRIC, SAMPLES, EXTRA_SAMPLES)
COLORS = (2, 3, 6)  # RGB, a palette, YCbCr
ALPHA = (1, 2)
#: The types of a tag that are integers, and how ``struct`` calls them.
INTEGERS = {1: 'B', 3: 'H', 4: 'L', 6: 'b', 8: 'h', 9: 'l', 16: 'Q', 17: 'q'}


@dataclass(frozen=True)
class TiffTags:
    """What a TIFF says of its first page.

    Attributes:
        pages: How many may be channels of one image: all, if they are of one
            size and have one sample each; else 1.
    """

    height: int
    width: int
    samples: int
    bits: int
    color: bool
    alpha: bool
    pages: int

    @classmethod
    def of(cls, content: bytes) -> TiffTags:
        """Read them.

        Raises:
            OSError: If they cannot be read.
        """
        pages = read_tags(content)
        if not pages or not {HEIGHT, WIDTH} <= pages[0].keys():
            raise OSError('a damaged TIFF: its first page has no size')
        first = pages[0]
        samples = first.get(SAMPLES, 1)
        color = first.get(PHOTOMETRIC) in COLORS
        shapes = {
            (page.get(HEIGHT), page.get(WIDTH), page.get(SAMPLES, 1))
            for page in pages
        }
        return cls(
            first[HEIGHT],
            first[WIDTH],
            samples,
            first.get(BITS, 1),
            color and samples <= 4,
            color and samples == 4 and first.get(EXTRA_SAMPLES) in ALPHA,
            len(pages) if samples == 1 and len(shapes) == 1 else 1,
        )


def read_tags(content: bytes) -> list[dict[int, int]]:
    """Read :data:`TAGS` of each page, the first value of each.

    As OpenCV does: of equal tags the first counts, and where the chain of
    pages is damaged or comes back to one, it ends.
    """
    order = '<' if content.startswith(b'II') else '>'
    big = content.startswith(TIFF[2:])  # may be larger than 4 GiB
    count, entry, link = (
        struct.Struct(order + layout)
        for layout in (('Q', 'HHQ', 'Q') if big else ('H', 'HHL', 'L'))
    )
    pages: list[dict[int, int]] = []
    seen = {0}  # which is the end
    try:
        (offset,) = link.unpack_from(content, 8 if big else 4)
        while offset not in seen:
            seen.add(offset)
            page: dict[int, int] = {}
            (entries,) = count.unpack_from(content, offset)
            offset += count.size
            for _ in range(entries):
                tag, kind, values = entry.unpack_from(content, offset)
                offset += entry.size
                if tag in TAGS:
                    integer = struct.Struct(order + INTEGERS[kind])
                    where = offset
                    if values * integer.size > link.size:
                        (where,) = link.unpack_from(content, offset)
                    (value,) = integer.unpack_from(content, where)
                    page.setdefault(tag, value)
                offset += link.size
            pages.append(page)
            (offset,) = link.unpack_from(content, offset)
    except (struct.error, KeyError, OverflowError):
        pass
    return pages
