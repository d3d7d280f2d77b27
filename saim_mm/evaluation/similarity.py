"""Which images are alike, by their features."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..apis import Batch
from ..datasets.pixels import PixelFormat
from ..utils.check import check_arg
from ..visualization.figures import load_images, to_array
from ..visualization.predictions import draw_columns
from ..visualization.tsne import draw_sheet
from .embed import write_csv

#: Images at a time that are compared with all.
ROWS = 1024
#: Rows of the picture of neighbours, and pixels of an image's side in it.
SHOWN, SIDE = 10, 128


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


def similarities(features: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Cosines of all pairs, some rows at a time.

    Args:
        features: As :func:`directions` gives them, (N, C).

    Yields:
        The first row, and (rows, N); of an image with itself -inf.
    """
    for start in range(0, len(features), ROWS):
        found = features[start : start + ROWS] @ features.T
        found.diagonal(start).fill_(-torch.inf)
        yield start, found


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
    check_arg(
        1 <= number < len(features),
        'neighbours',
        number,
        f'from 1 to {len(features) - 1}: there are {len(features)} images',
    )
    found = [
        rows.topk(number) for _, rows in similarities(directions(features))
    ]
    values, indices = zip(*found)
    return torch.cat(values), torch.cat(indices)


def same(features: Tensor, threshold: float) -> list[list[int]]:
    """Groups of images of which each is as good as the same as another.

    Args:
        features: float32, (N, C).
        threshold: Least cosine similarity of two that are the same.

    Returns:
        Groups of two or more, sorted, by their first image.

    Raises:
        ValueError: If the threshold is no cosine above 0.
    """
    check_arg(
        0 < threshold <= 1,
        'duplicates',
        threshold,
        'a cosine similarity above 0, at most 1, such as 0.98',
    )
    group = list(range(len(features)))

    def first(image: int) -> int:
        while group[image] != image:
            group[image] = image = group[group[image]]
        return image

    # Rounding makes two that are equal a little less.
    threshold = min(threshold, 1 - 1e-5)
    for start, rows in similarities(directions(features)):
        for one, other in (rows >= threshold).nonzero().tolist():
            roots = sorted((first(start + one), first(other)))
            group[roots[1]] = roots[0]
    members: dict[int, list[int]] = {}
    for image in range(len(features)):
        members.setdefault(first(image), []).append(image)
    return [images for images in members.values() if len(images) > 1]


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
            those of ten images are drawn, ``<name>.neighbours.jpg``.
        duplicates: The cosine similarity from which on they go, in groups,
            into ``<name>.duplicates.csv``.
        sheet: Whether all are drawn, like beside like, ``<name>.tsne.jpg``.

    Yields:
        A line about each file that is written.

    Raises:
        ImportError: Without scikit-learn, of a sheet.
        ValueError: As :func:`nearest` and :func:`same`.
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
        yield str(path)
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
        groups = same(features, duplicates)
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
