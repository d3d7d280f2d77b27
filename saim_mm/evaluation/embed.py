"""Features of many images, with their names, into a file."""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from safetensors.torch import save
from torch import Tensor

from ..apis import Batch, FeatureExtractor, check_readable, list_images
from ..checkpoint.atomic import atomic_write, commit, tmp_path
from ..datasets.images import in_a_line
from ..datasets.pixels import PixelFormat
from ..utils.check import check_arg
from ..utils.lock import LOCK, locked
from ..version import __version__

SUFFIXES = ('.npz', '.csv', '.safetensors')
#: Images whose features go into a file together until all are done.
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
    return list(dict.fromkeys(Path(path) for _, path, _ in list_images(paths)))


@contextlib.contextmanager
def parts_of(out: str | Path) -> Iterator[Path]:
    """A folder beside a file, for what is done of it until all is.

    Yields:
        The folder. When all went well what :func:`embed_images` has put
        there is removed, and the folder too, if nothing else is in it.

    Raises:
        OSError: If the disk is full.
        RuntimeError: If another run is at work on the same file.
    """
    out = checked_out(out)
    folder = out.with_name(f'{out.name}.parts')
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, 'out'):
        try:
            yield folder
            for path in folder.glob('features-*.safetensors'):
                path.unlink()
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise OSError(
                f'out={str(out)!r}: cannot be written ({error}); make room, '
                'and the same command goes on'
            ) from error
        finally:
            (folder / LOCK).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # something is in it
                folder.rmdir()


def embed_images(
    files: Sequence[Path],
    parts: Path,
    model: str | Path,
    pretrained: str | Path,
    readout: str = 'patch_mean',
    batch_size: int = 32,
    done: Callable[[int], Any] = lambda number: None,
) -> tuple[Batch, PixelFormat]:
    """Features of images; goes on with what a run before has left.

    Those of each 1,024 images are kept in a folder. An image's are taken from
    there if neither the model nor this file (by path, size and time) has
    changed since.

    Args:
        files: The images, as :func:`files_of` gives them.
        parts: The folder, of :func:`parts_of`.
        model, pretrained, readout: As for :class:`~saim_mm.FeatureExtractor`.
        batch_size: Images at a time.
        done: Called with the number of images that are done, more and more.

    Returns:
        Names and features of what could be read, and what could not; and what
        the images are.

    Raises:
        ValueError: If there is no image that can be read.
    """
    extract = FeatureExtractor(model, pretrained, device=get_device())
    settings = fingerprint(extract, model, readout)
    stamps = [stamp(settings, file) for file in files]
    known = read_parts(parts)
    new: dict[str, Tensor] = {}
    skipped = []
    # The same batches however often it stops: to the same bits.
    for start in range(0, len(files), batch_size):
        some = slice(start, start + batch_size)
        missing = {
            str(file): key
            for file, key in zip(files[some], stamps[some])
            if key not in known
        }
        for batch in extract.batches(
            [(name, name, True) for name in missing],
            readout=readout,
            batch_size=batch_size,
        ):
            skipped += batch.skipped
            for name, row in zip(
                batch.names, () if batch.features is None else batch.features
            ):
                new[missing[name]] = known[missing[name]] = row
        if len(new) >= PART:
            write_part(parts, new)
            new = {}
        done(len(files[some]))
    if new:
        write_part(parts, new)
    check_readable(skipped, len(files))
    names = {str(f): key for f, key in zip(files, stamps) if key in known}
    features = torch.stack([known[key] for key in names.values()])
    return Batch(list(names), features, skipped), extract.pixels


def fingerprint(
    extract: FeatureExtractor, model: str | Path, readout: str
) -> str:
    """What features depend on, beside the image: weights and settings."""
    if Path(model).suffix == '.py':
        model = repr(Config.fromfile(model).model.backbone)
    device = next(extract.model.parameters()).device.type
    settings = (__version__, str(model), extract.pixels, readout, device)
    digest = hashlib.sha256(repr(settings).encode())
    for name, value in extract.model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().numpy())
    return digest.hexdigest()


def stamp(settings: str, file: Path) -> str:
    """Of the features of a file: another if it or a setting changes."""
    about = [settings, str(file.absolute())]
    with contextlib.suppress(OSError):  # which reading it will say
        state = file.stat()
        about += [state.st_size, state.st_mtime_ns, state.st_ctime_ns]
    return hashlib.sha256(repr(about).encode()).hexdigest()


def write_part(folder: Path, rows: Mapping[str, Tensor]) -> None:
    """Keep rows of features, float32, (C,), by their images' stamps."""
    keys = list(rows)
    name = hashlib.sha256(''.join(keys).encode()).hexdigest()[:16]
    content = save(
        dict(features=torch.stack(list(rows.values()))),
        dict(stamps=json.dumps(keys)),
    )
    atomic_write(folder / f'features-{name}.safetensors', content)


def read_parts(folder: Path) -> dict[str, Tensor]:
    """All that :func:`write_part` has written; damaged files are as none."""
    rows = {}
    for path in folder.glob('features-*.safetensors'):
        with contextlib.suppress(SafetensorError, OSError):
            with safe_open(path, 'pt') as file:
                keys = json.loads(file.metadata()['stamps'])
                rows.update(zip(keys, file.get_tensor('features')))
    return rows


def checked_out(out: str | Path) -> Path:
    """The file for features; refused if it cannot be one."""
    path = Path(out).expanduser()
    check_arg(
        path.suffix in SUFFIXES and not path.is_dir(),
        'out',
        str(out),
        f'the name of a file, in {SUFFIXES}',
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
    part = tmp_path(path)
    try:
        if path.suffix == '.npz':
            with open(part, 'wb') as file:  # to a name np.savez adds .npz
                np.savez(file, names=np.array(names), features=features)
        elif path.suffix == '.csv':
            rows = (
                [name, *row] for name, row in zip(names, features.tolist())
            )
            write_csv(part, ['file', *range(features.shape[1])], rows)
        else:
            header = {f'name.{i}': in_a_line(x) for i, x in enumerate(names)}
            save_file(dict(features=features), part, metadata=header)
        commit(path)
    finally:
        part.unlink(missing_ok=True)


def write_csv(path: str | Path, head: Sequence[Any], rows: Iterable) -> None:
    """Write a table, with names of files as they are on disk.

    Args:
        path: '-' is standard output.
    """
    with click.open_file(
        str(path), 'w', encoding='utf-8', errors='surrogateescape'
    ) as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows(rows)
        file.flush()  # before what follows on standard error
