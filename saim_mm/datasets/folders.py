"""What is in a folder of images, or of classes."""

from __future__ import annotations

import hashlib
import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..utils.check import check_arg, check_share
from .decoding import Kind, decode_any, read_kind
from .images import (
    EXTENSIONS,
    find_images,
    in_a_line,
    is_hidden,
    left_out,
    read_file,
)

#: Line breaks, and what is not UTF-8.
UNLISTABLE = '[\n\r\ud800-\udfff]'


@dataclass
class Folder:
    """What is in a folder of images: how many, and their median sides.

    Attributes:
        files: All that are named as images.
        kinds: Some of those that can be read, and what they are.
        others: As :func:`~saim_mm.datasets.images.left_out` says it.
    """

    path: Path
    number: int
    height: int
    width: int
    files: list[Path]
    kinds: list[tuple[Path, Kind]]
    others: str

    def __str__(self) -> str:
        others = f' ({self.others})' if self.others else ''
        return (
            f'{self.number:,} images of about {self.width} x {self.height} '
            f'pixels{others}'
        )


def look_at(folder: str | Path) -> Folder:
    """Count the images of a folder, and measure some of them.

    Args:
        folder: The folder; its sub-folders are searched too.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it holds no image that can be read.
        ImportError: If reading one takes what is not installed.
    """
    path = Path(folder).expanduser().resolve()
    if not path.is_dir():
        raise FileNotFoundError(
            f'data={str(folder)!r}: no such folder; give a folder of images'
        )
    images = find_images(path)
    others = left_out(path)
    kinds, reason = [], f' ({others})' if others else ''
    for image in images[:: max(1, len(images) // 100)]:
        try:
            kinds.append((image, read_kind(image)))
        except ImportError:
            raise
        except Exception as error:  # broken, however
            reason = f' ({image.name}: {in_a_line(str(error))})'
    check_arg(
        len(kinds) > 0,
        'data',
        str(folder),
        'a folder with images that can be read, with names that end in one of '
        f'{sorted(EXTENSIONS)}; none of {len(images)} can{reason}',
    )
    width, height = (
        sorted(side)[len(side) // 2]
        for side in zip(*((kind.width, kind.height) for _, kind in kinds))
    )
    return Folder(path, len(images), height, width, images, kinds, others)


@dataclass
class Classes:
    """The images of a folder of classes.

    Attributes:
        names: Of the classes.
        train, val: Lines ``PATH LABEL``, paths from the folder.
        skipped: A line about each file that is left out.
    """

    names: list[str]
    train: list[str]
    val: list[str]
    skipped: list[str]


def split_classes(folder: Path) -> Classes:
    """The images for training and for validation, and the classes.

    Args:
        folder: As ``data`` of :func:`~saim_mm.finetune`.

    Raises:
        ValueError: If there are not two classes, a split lacks one, or a name
            cannot stand in a list.
    """
    halves = [folder / name for name in ('train', 'val')]
    split = all(half.is_dir() for half in halves)
    check_arg(
        split or not (halves[0].is_dir() and folders_in(halves[0])),
        'data',
        str(folder),
        'a folder with train/ and val/, or with a folder for each class; '
        f'beside train/ it has {folders_in(folder)}',
    )
    parents = halves if split else [folder]
    names = folders_in(parents[0])
    check_arg(
        len(names) > 1,
        'data',
        str(folder),
        'a folder with a folder of images for each of two or more classes '
        f'(or such folders in train/ and val/); it has {names}',
    )
    others = set(folders_in(parents[-1])) ^ set(names)
    check_arg(
        not others,
        'data',
        str(folder),
        'a folder with the same classes in train/ and val/; only one of them '
        f'has {sorted(others)}',
    )
    lines: list[list[str]] = [[], []]
    skipped: list[str] = []
    for half, parent in enumerate(parents):
        for label, name in enumerate(names):
            images, reasons = readable(find_images(parent / name))
            skipped += reasons
            check_arg(
                len(images) > (0 if split else 1),
                'data',
                str(parent / name),
                'a folder with images that can be read'
                + ('' if split else ', two at least: one is for validation'),
            )
            for number, path in enumerate(images):
                part = half if split else number % 5 == 1
                lines[part].append(f'{path.relative_to(folder)} {label}')
    for line in (line for half in lines for line in half):
        check_arg(
            line == line.strip() and not re.search(UNLISTABLE, line),
            'data',
            line.rsplit(' ', 1)[0],
            'a name in UTF-8, without line breaks and without a space at the '
            'beginning: it stands in a list of files; rename it',
        )
    return Classes(names, *lines, skipped)


def folders_in(folder: Path) -> list[str]:
    """The names of its sub-folders but hidden ones, sorted."""
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.is_dir() and not is_hidden(path.name)
    )


def readable(files: list[Path]) -> tuple[list[Path], list[str]]:
    """Files that can be decoded, and a line about each other."""
    stamps = []
    for path in files:
        stat = path.stat() if path.is_file() else None
        stamps.append(stat and (stat.st_mtime_ns, stat.st_size))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        reasons = list(pool.map(reason_against, files, stamps))
    return (
        [path for path, reason in zip(files, reasons) if reason is None],
        [
            in_a_line(f'skipped: {path} ({reason})')
            for path, reason in zip(files, reasons)
            if reason is not None
        ],
    )


@lru_cache(maxsize=2**20)
def reason_against(path: Path, _: tuple[int, int] | None) -> str | None:
    """Why a file, as it is since its time and size, cannot be decoded."""
    try:
        decode_any(read_file(str(path)))
    except ImportError:
        raise
    except Exception as error:  # broken, however
        return str(error).strip()
    return None


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
    check_share('fraction', fraction)
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
