"""Features of many images, with their names, into a file."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from mmengine.device import get_device
from safetensors.numpy import save_file

from ..apis import FeatureExtractor
from ..datasets.images import find_images
from ..models.vit import SAIMViT
from ..utils.check import check_arg

SUFFIXES = ('.npz', '.csv', '.safetensors')


def files_of(paths: Iterable[str | Path]) -> list[Path]:
    """The images among files and below folders.

    Raises:
        FileNotFoundError: If one is not there.
        ValueError: If there is none.
    """
    paths = [Path(path).expanduser() for path in paths]
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(
                f'images={str(path)!r}: no such file or folder'
            )
    files = [
        file
        for path in paths
        for file in (find_images(path) if path.is_dir() else [path])
    ]
    check_arg(
        len(files) > 0,
        'images',
        [str(path) for path in paths],
        'images, or folders with images in them',
    )
    return files


def embed_images(
    paths: Iterable[str | Path],
    model: SAIMViT | str | Path,
    pretrained: str | None = None,
    readout: str = 'patch_mean',
    batch_size: int = 32,
) -> tuple[list[str], np.ndarray, list[tuple[str, str]]]:
    """Features of images; what cannot be read is left out.

    Args:
        paths: Files, or folders, which are searched with their sub-folders.
        model, pretrained: As for :class:`~saim_mm.FeatureExtractor`.
        readout: As for :class:`~saim_mm.FeatureExtractor`.
        batch_size: Images at a time.

    Returns:
        The names of N images; float32, (N, C); and the names of those that
        were skipped, with the reason.

    Raises:
        FileNotFoundError: If a path is not there.
        ValueError: If there is no image that can be read.
    """
    extract = FeatureExtractor(model, pretrained, device=get_device())
    with warnings.catch_warnings():  # the caller names what is skipped
        warnings.simplefilter('ignore')
        names, features = extract(
            files_of(paths),
            readout=readout,
            batch_size=batch_size,
            return_names=True,
            skip_unreadable=True,
        )
    return names, features.numpy(), extract.skipped


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
    path = Path(out).expanduser()
    check_arg(
        path.suffix in SUFFIXES, 'out', str(out), f'a name in {SUFFIXES}'
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == '.npz':
        np.savez(path, names=np.array(names), features=features)
    elif path.suffix == '.csv':
        with open(path, 'w', newline='') as file:
            writer = csv.writer(file)
            writer.writerow(['file', *range(features.shape[1])])
            for name, row in zip(names, features):
                writer.writerow([name, *row.tolist()])
    else:
        header = {f'name.{i}': name for i, name in enumerate(names)}
        save_file(dict(features=features), path, metadata=header)
