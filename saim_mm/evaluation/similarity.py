"""Which images are alike, by their features; and which are the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.device import get_device
from torch import Tensor
from torch.nn import functional as F

from ..apis import Batch
from ..datasets.pixels import PixelFormat
from ..utils.check import check_arg
from ..utils.dependency import require
from ..visualization.figures import load_images, to_array
from ..visualization.predictions import draw_columns
from ..visualization.tsne import check_enough, draw_sheet
from .embed import write_csv

#: Pairs of images that are compared at a time.
PAIRS = 2**26
#: Rows of the picture of neighbours, and pixels of an image's side in it.
SHOWN, SIDE = 10, 128
#: Pixels of the side of a thumbnail by which duplicates are found.
GRID = 16


def directions(features: Tensor) -> Tensor:
    """Features less their mean, of length 1.

    What all images of a folder have in common would make every pair alike.

    Args:
        features: float32, (N, C).

    Returns:
        float32, (N, C + 1). The last coordinate is next to nothing, but what
        is the same where nothing else is left: images that are all equal.
    """
    rest = 1e-4 * features.norm(dim=1).mean()
    centered = features - features.mean(dim=0)
    return F.normalize(F.pad(centered, (0, 1), value=float(rest)), dim=1)


def same_folder(names: Sequence[str], nearest: Sequence[int]) -> str:
    """How often the most alike image is of the same folder, as classes are.

    Args:
        names: Paths of N images.
        nearest: For each, which of them is most alike.

    Returns:
        A share beside that of chance, as words; '' if there is one folder.
    """
    folders = [Path(name).parent for name in names]
    sizes = Counter(folders).values()
    if len(sizes) < 2:
        return ''
    same = [folders[i] == folders[j] for i, j in enumerate(nearest)]
    pairs = len(names) * (len(names) - 1)
    chance = sum(size * (size - 1) for size in sizes) / pairs
    return (
        f'; the nearest is of the same folder for {np.mean(same):.1%}, by '
        f'chance {chance:.1%}'
    )


def patterns(images: Tensor) -> Tensor:
    """What there is to see in images, whatever their brightness and contrast.

    Args:
        images: float32, (N, C, H, W).

    Returns:
        Pixels less the mean of each channel, of length 1, float32,
        (N, C * H * W + 1). The last is next to nothing, but in images of one
        colour, which are thus all alike.
    """
    rest = 1e-5 * images.flatten(1).norm(dim=1, keepdim=True) + 1e-9
    centered = images - images.mean(dim=(2, 3), keepdim=True)
    return F.normalize(torch.cat([centered.flatten(1), rest], dim=1), dim=1)


def similarities(features: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Cosines of all pairs, some rows at a time.

    Args:
        features: As :func:`directions` gives them, (N, C).

    Yields:
        The first row, and (rows, N), on the GPU if there is one; of an image
        with itself -inf.
    """
    features = features.to(get_device())
    number = max(1, PAIRS // len(features))
    for start in range(0, len(features), number):
        found = features[start : start + number] @ features.T
        found.diagonal(start).fill_(-torch.inf)
        yield start, found


def check_neighbours(number: int, images: int) -> None:
    """Refuse more neighbours than there are other images, or none."""
    check_arg(
        1 <= number < images,
        'neighbours',
        number,
        f'from 1 to {images - 1}: there are {images} images',
    )


def nearest(features: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """The images that are most alike, for each.

    Args:
        features: float32, (N, C).
        number: Neighbours of an image, K.

    Returns:
        Their cosine similarity, float32, (N, K), the greatest first; and
        which they are, int64, (N, K).

    Raises:
        ValueError: If there are not as many other images.
    """
    check_neighbours(number, len(features))
    found = [
        rows.topk(number) for _, rows in similarities(directions(features))
    ]
    values, indices = zip(*found)
    return torch.cat(values).cpu(), torch.cat(indices).cpu()


def same(vectors: Tensor, threshold: float) -> list[list[int]]:
    """Groups of images of which each is as good as the same as another.

    Args:
        vectors: As :func:`patterns` gives them, (N, C).
        threshold: Least cosine of two that are the same.

    Returns:
        Groups of two or more, sorted, by their first image.
    """
    group = torch.arange(len(vectors))
    # Rounding makes two that are equal a little less.
    threshold = min(threshold, 1 - 1e-5)
    for start, rows in similarities(vectors):
        alike = rows >= threshold
        for row in alike.any(dim=1).nonzero().flatten().tolist():
            groups = group[alike[row].cpu()]
            mine = group[start + row]
            if (groups != mine).any():
                groups = torch.cat([groups, mine[None]])
                group[torch.isin(group, groups)] = groups.min()
    members: dict[int, list[int]] = {}
    for image, first in enumerate(group.tolist()):
        members.setdefault(first, []).append(image)
    return [images for images in members.values() if len(images) > 1]


def check_similar(
    files: Sequence[Path],
    images: Iterable[str | Path],
    out: str | Path,
    neighbours: int | None,
    duplicates: float | None,
    sheet: bool,
) -> None:
    """Refuse what :func:`write_similar` cannot do, before any work.

    Args:
        files: The images.
        images: The files and folders that they are from.

    Raises:
        ImportError: Without scikit-learn, of a sheet.
        ValueError: If there are too few images, a cosine is none, or a
            picture would lie among the images.
    """
    if neighbours is not None:
        check_neighbours(neighbours, len(files))
    check_arg(
        duplicates is None or 0 < duplicates <= 1,
        'duplicates',
        duplicates,
        'a cosine above 0, at most 1, such as 0.99',
    )
    if sheet:
        require('sklearn', 'a t-SNE sheet')
        check_enough(len(files))
    if sheet or neighbours is not None:
        place = Path(out).expanduser().resolve().parent
        for folder in map(Path, images):
            check_arg(
                not place.is_relative_to(folder.expanduser().resolve()),
                'out',
                str(out),
                f'outside of {str(folder)!r}, or the pictures beside it '
                'would be among the images the next time',
            )


def write_similar(
    found: Batch,
    pixels: PixelFormat,
    out: str | Path,
    neighbours: int | None = None,
    duplicates: float | None = None,
    sheet: bool = False,
) -> Iterator[str]:
    """Write beside a file of features which images are alike.

    Args:
        found: Names and features of N images.
        pixels: What they are.
        out: The file of features, ``<name>.<suffix>``.
        neighbours: How many of each image go into ``<name>.neighbours.csv``;
            up to eight of up to ten images are drawn,
            ``<name>.neighbours.jpg``.
        duplicates: Images go, in groups, into ``<name>.duplicates.csv`` if
            the cosine of their :func:`patterns`, as thumbnails, is at least
            this. What the encoder makes of them does not matter.
        sheet: Whether all are drawn, like beside like, ``<name>.tsne.jpg``.

    Yields:
        A line about each file that is written.

    Raises:
        ImportError, ValueError: As :func:`check_similar`, if too few images
            can be read.
    """
    names, features = found.names, found.features
    base = Path(out).expanduser()

    def beside(what: str) -> Path:
        return base.with_name(f'{base.stem}.{what}')

    def thumbnail(image: int, side: int = SIDE) -> np.ndarray:
        [picture] = load_images([names[image]], (side, side), pixels)
        return to_array(pixels.to_rgb(picture))

    if neighbours is not None:
        values, indices = nearest(features, neighbours)
        path = beside('neighbours.csv')
        write_csv(
            path,
            ('file', 'rank', 'neighbour', 'cosine'),
            (
                (names[i], rank, names[j], round(cosine, 4))
                for i in range(len(names))
                for rank, (j, cosine) in enumerate(
                    zip(indices[i].tolist(), values[i].tolist()), 1
                )
            ),
        )
        yield f'{path}{same_folder(names, indices[:, 0].tolist())}'
        some = range(0, len(names), -(-len(names) // SHOWN))
        columns = {'image': [thumbnail(i) for i in some]}
        for rank in range(min(neighbours, 8)):
            columns[f'{rank + 1}.'] = [
                thumbnail(int(indices[i, rank])) for i in some
            ]
        path = beside('neighbours.jpg')
        draw_columns(columns, width=1.4).savefig(path, dpi=100)
        yield f'{path}: of {len(some)} images'
    if duplicates is not None:
        thumbnails = (
            load_images([name], (GRID, GRID), pixels, whole=True)
            for name in names
        )
        groups = same(patterns(torch.cat(list(thumbnails))), duplicates)
        path = beside('duplicates.csv')
        write_csv(
            path,
            ('group', 'file'),
            ((n, names[i]) for n, group in enumerate(groups) for i in group),
        )
        more = sum(map(len, groups)) - len(groups)
        yield f'{path}: {len(groups)} groups, {more} images more than one each'
    if sheet:
        side = 48
        picture, number = draw_sheet(
            features, lambda image: thumbnail(image, side - 2), side
        )
        path = beside('tsne.jpg')
        picture.save(path, quality=90)
        yield f'{path}: {number} images, like beside like'
