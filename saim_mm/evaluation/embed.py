"""Features of many images, with their names, into a file."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.device import get_device
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from safetensors.torch import save

from ..apis import Batch, FeatureExtractor, list_images
from ..checkpoint.atomic import atomic_write
from ..datasets.images import in_a_line
from ..datasets.pixels import PixelFormat
from ..utils.check import check_arg

SUFFIXES = ('.npz', '.csv', '.safetensors')
#: Images whose features are kept together until all are done.
PART = 1024


def files_of(paths: Iterable[str | Path]) -> list[Path]:
    """The images among files and below folders.

    Raises:
        FileNotFoundError: If one is not there.
        ValueError: If there is none, or none in a folder.
    """
    paths = [Path(path).expanduser() for path in paths]
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(
                f'images={str(path)!r}: no such file or folder'
            )
    return [Path(path) for _, path, _ in list_images(paths)]


def embed_images(
    paths: Iterable[str | Path],
    out: str | Path,
    model: str,
    pretrained: str | Path,
    readout: str = 'patch_mean',
    batch_size: int = 32,
    done: Callable[[int], Any] = lambda number: None,
) -> tuple[Batch, PixelFormat]:
    """Write the features of images; go on with what a run before has left.

    Until all are done, those of each 1,024 images are in a folder beside
    ``out``. They are taken from there if neither the weights nor these files
    (by path, size and time) have changed since.

    Args:
        paths: Files, or folders, which are searched with their sub-folders.
        out: See :func:`save_features`.
        model, pretrained, readout: As for :class:`~saim_mm.FeatureExtractor`.
        batch_size: Images at a time.
        done: Called with the number of images of a batch that is done.

    Returns:
        Names and features of what could be read, and what could not; and what
        the images are.

    Raises:
        FileNotFoundError: If a path is not there.
        ValueError: If there is no image that can be read.
    """
    out = checked_out(out)
    files = files_of(paths)
    extract = FeatureExtractor(model, pretrained, device=get_device())
    settings = fingerprint(extract, model, readout)
    folder = out.with_name(f'{out.name}.parts')
    folder.mkdir(parents=True, exist_ok=True)
    parts, written = [], []
    for start in range(0, len(files), PART):
        some = files[start : start + PART]
        path = folder / f'{stamp(settings, some)}.safetensors'
        written.append(path)
        part = read_part(path)
        if part is not None:
            done(len(some))
        else:
            batches = []
            for batch in extract.batches(
                [(str(file), file, True) for file in some],
                readout=readout,
                batch_size=batch_size,
            ):
                batches.append(batch)
                done(len(batch.names) + len(batch.skipped))
            part = joined(batches)
            write_part(path, part)
        parts.append(part)
    found = joined(parts)
    if found.names:
        save_features(found.names, found.features.numpy(), out)
    for path in written:
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # something else is in it
        folder.rmdir()
    check_arg(
        len(found.names) > 0,
        'images',
        [name for name, _ in found.skipped[:3]],
        'images that can be read; none of them can '
        f'({found.skipped[0][1] if found.skipped else ""})',
    )
    return found, extract.pixels


def joined(parts: Sequence[Batch]) -> Batch:
    """Several as one."""
    features = [x.features for x in parts if x.features is not None]
    return Batch(
        [name for part in parts for name in part.names],
        torch.cat(features) if features else None,
        [pair for part in parts for pair in part.skipped],
    )


def fingerprint(extract: FeatureExtractor, model: str, readout: str) -> str:
    """What features depend on, beside the image: weights and settings."""
    if model.endswith('.py'):
        model = Path(model).read_text()
    digest = hashlib.sha256(repr((model, extract.pixels, readout)).encode())
    for name, value in extract.model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().numpy())
    return digest.hexdigest()


def stamp(settings: str, files: Iterable[Path]) -> str:
    """Of the features of files: another if a file or a setting changes."""
    digest = hashlib.sha256(settings.encode())
    for file in files:
        about = [str(file), str(file.absolute())]  # and under which name
        try:
            state = file.stat()
            about += [state.st_size, state.st_mtime_ns]
        except OSError:  # which reading it will say
            pass
        digest.update(repr(about).encode())
    return digest.hexdigest()


def write_part(path: Path, part: Batch) -> None:
    """Keep the features of some images."""
    tensors = {} if part.features is None else dict(features=part.features)
    header = dict(names=part.names, skipped=part.skipped)
    atomic_write(path, save(tensors, dict(batch=json.dumps(header))))


def read_part(path: Path) -> Batch | None:
    """What :func:`write_part` has written; None if it is not there."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, 'pt') as file:
            header = json.loads(file.metadata()['batch'])
            features = file.get_tensor('features') if file.keys() else None
    except (SafetensorError, OSError):  # damaged: made anew
        return None
    return Batch(
        header['names'], features, [tuple(x) for x in header['skipped']]
    )


def checked_out(out: str | Path) -> Path:
    """The file for features; refused if its name says no format."""
    path = Path(out).expanduser()
    check_arg(
        path.suffix in SUFFIXES, 'out', str(out), f'a name in {SUFFIXES}'
    )
    return path


def save_features(
    names: Sequence[str], features: np.ndarray, out: str | Path
) -> None:
    """Write names and features, by the name of the file.

    Args:
        names: Of N images.
        features: float32, (N, C).
        out: ``.npz`` with ``names`` and ``features``; ``.csv``, a line an
            image; or ``.safetensors``, whose header names row i as ``name.i``.

    Raises:
        ValueError: If the name ends otherwise.
    """
    path = checked_out(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == '.npz':
        np.savez(path, names=np.array(names), features=features)
    elif path.suffix == '.csv':
        rows = ([name, *row] for name, row in zip(names, features.tolist()))
        write_csv(path, ['file', *range(features.shape[1])], rows)
    else:
        header = {f'name.{i}': in_a_line(x) for i, x in enumerate(names)}
        save_file(dict(features=features), path, metadata=header)


def write_csv(path: Path, head: Sequence[Any], rows: Iterable) -> None:
    """Write a table, with names of files as they are on disk."""
    with open(
        path, 'w', newline='', encoding='utf-8', errors='surrogateescape'
    ) as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows(rows)
