"""What is in a folder of images, or of classes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..utils.check import check_arg
from .decoding import Kind, read_kind
from .images import EXTENSIONS, find_images, in_a_line


@dataclass
class Folder:
    """What is in a folder of images: how many, and their median sides.

    Attributes:
        files: All that are named as images.
        kinds: Some of those that can be read, and what they are.
    """

    path: Path
    number: int
    height: int
    width: int
    files: list[Path]
    kinds: list[tuple[Path, Kind]]

    def __str__(self) -> str:
        return (
            f'{self.number:,} images of about {self.width} x {self.height} '
            'pixels'
        )


def look_at(folder: str | Path, field: str = 'data') -> Folder:
    """Count the images of a folder, and measure some of them.

    Args:
        folder: The folder; its sub-folders are searched too.
        field: What errors call it.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it holds no image that can be read.
        ImportError: If reading one takes what is not installed.
    """
    path = Path(folder).expanduser().resolve()
    if not path.is_dir():
        raise FileNotFoundError(
            f'{field}={str(folder)!r}: no such folder; give a folder of images'
        )
    images = find_images(path)
    kinds, reason = [], ''
    for image in images[:: max(1, len(images) // 100)]:
        try:
            kinds.append((image, read_kind(image)))
        except ImportError:
            raise
        except Exception as error:  # broken, however
            reason = f' ({image.name}: {in_a_line(str(error))})'
    check_arg(
        len(kinds) > 0,
        field,
        str(folder),
        'a folder with images that can be read, with names that end in one of '
        f'{sorted(EXTENSIONS)}; none of {len(images)} can{reason}',
    )
    width, height = (
        sorted(side)[len(side) // 2]
        for side in zip(*((kind.width, kind.height) for _, kind in kinds))
    )
    return Folder(path, len(images), height, width, images, kinds)


def split_classes(
    folder: Path,
) -> tuple[list[str], list[str], list[str]]:
    """The images for training and for validation, and the classes.

    Args:
        folder: As ``data`` of :func:`~saim_mm.finetune`.

    Returns:
        Lines ``PATH LABEL``, paths from ``folder``; and names of classes.

    Raises:
        ValueError: If there are not two classes, or a split lacks one.
    """
    halves = [folder / name for name in ('train', 'val')]
    split = all(half.is_dir() for half in halves)
    parents = halves if split else [folder]
    classes = sorted(p.name for p in parents[0].iterdir() if p.is_dir())
    check_arg(
        len(classes) > 1,
        'data',
        str(folder),
        'a folder with a folder of images for each of two or more classes '
        f'(or such folders in train/ and val/); it has {classes}',
    )
    lines = []
    for parent in parents:
        lines.append([])
        for label, name in enumerate(classes):
            images = find_images(parent / name)
            check_arg(
                len(images) > (0 if split else 1),
                'data',
                str(parent / name),
                'a folder with images'
                + ('' if split else ', two at least: one is for validation'),
            )
            lines[-1] += [f'{p.relative_to(folder)} {label}' for p in images]
    if not split:
        (every,) = lines
        lines = [[], []]
        for label in range(len(classes)):
            own = [x for x in every if x.endswith(f' {label}')]
            for number, line in enumerate(own):
                lines[number % 5 == 1].append(line)
    return lines[0], lines[1], classes


def choose_fraction(
    lines: list[str], fraction: float, seed: int = 0
) -> list[int]:
    """Choose a share of each class's images at random, one at least.

    Args:
        lines: ``PATH LABEL`` each.
        fraction: More than 0, at most 1.
        seed: Of the choice; of one seed a larger share has the smaller in it.

    Returns:
        Which lines, in their order.
    """
    check_arg(
        0 < fraction <= 1, 'fraction', fraction, 'more than 0 and at most 1'
    )
    own: dict[str, list[int]] = {}
    for index, line in enumerate(lines):
        own.setdefault(line.rsplit(' ', 1)[1], []).append(index)
    random = np.random.default_rng(seed)
    chosen = []
    for indices in own.values():
        number = max(1, round(fraction * len(indices)))
        chosen += random.permutation(indices)[:number].tolist()
    return sorted(chosen)


def check_parts(folder: Path, train: list[str], val: list[str]) -> None:
    """Refuse images that are trained on and validated with.

    Args:
        folder: Of the images.
        train, val: Lines ``PATH LABEL`` of its two parts.

    Raises:
        ValueError: If a file of one part has the content of one of the other.
    """
    known = {digest(folder, line): line for line in train}
    both = [
        (known[content], line)
        for line in val
        if (content := digest(folder, line)) in known
    ]
    first = [line.rsplit(' ', 1)[0] for pair in both[:1] for line in pair]
    check_arg(
        not both,
        'data',
        str(folder),
        'a folder of which no image stands in both parts, to train on and to '
        f'validate; {len(both)} do, the first as {" and ".join(first)}',
    )


def digest(folder: Path, line: str) -> bytes:
    """What tells the content of a line's file from others."""
    path = folder / line.rsplit(' ', 1)[0]
    return hashlib.sha256(path.read_bytes()).digest()
