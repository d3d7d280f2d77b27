"""Checkpoints: safetensors, or pickles of which nothing is executed."""

import argparse
import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Optional, Union
from urllib.parse import urlparse

import numpy as np
import torch
from mmengine.dist import barrier, get_local_rank, is_main_process
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import (
    get_external_models,
    get_torchvision_models,
)
from torch import Tensor
from torch.distributed.checkpoint import CheckpointException

from .sharding import REST, load_folder
from .zoo import SCHEME, WEIGHTS, locate


def _attribute(owner: Any, name: str) -> Any:
    """Stands for ``getattr``, which a pickle could reach anything through.

    Args:
        owner: ``HistoryBuffer``, whose statistics MMEngine saves by name.
        name (str): Of one of them.

    Raises:
        UnpicklingError: If it is something else.
    """
    if owner is not HistoryBuffer or name not in STATISTICS:
        raise UnpicklingError(f'getattr of {name!r}, which could run code')
    return getattr(owner, name)


# The name by which PyTorch finds it.
_attribute.__module__, _attribute.__name__ = 'builtins', 'getattr'
_attribute.__qualname__ = 'getattr'


def _harmless() -> list:
    """What may stand in a checkpoint beside tensors and plain data.

    MMEngine saves the logged numbers as ``HistoryBuffer``, and MAE's code, on
    which the authors' is built, its command line.
    """
    dtypes = (np.float64, np.float32, np.int64, np.int32, np.uint32)
    # How numpy pickles an array and a scalar; private names that moved in 2.0.
    reconstruct = np.zeros(0).__reduce__()[0]
    scalar = np.float64(0).__reduce__()[0]
    return [
        argparse.Namespace,
        HistoryBuffer,
        _attribute,
        np.ndarray,
        np.dtype,
        reconstruct,
        scalar,
        *(type(np.dtype(t)) for t in dtypes),
    ]


#: What MMEngine's logs are averaged by.
STATISTICS = ('min', 'max', 'mean', 'current')
#: Zoos whose models MMEngine finds by name: functions that give addresses.
ZOOS = {
    'modelzoo': get_torchvision_models,
    'torchvision': get_torchvision_models,
    'open-mmlab': get_external_models,
    'openmmlab': get_external_models,
}
#: Environment variable: files, as they are given, that may run code.
TRUSTED = 'SAIM_MM_TRUSTED_CHECKPOINTS'


@CheckpointLoader.register_scheme(prefixes=(SCHEME, ''), force=True)
def load_from_local(
    filename: Union[str, Path], map_location: Optional[Any] = None
) -> dict:
    """Load a local checkpoint; MMEngine does so for every path through this.

    Unlike MMEngine's own loader it reads safetensors, and never falls back to
    executing a pickle.

    Args:
        filename (str | Path): The file, the folder of a sharded checkpoint, or
            ``saim_mm://NAME`` for weights of :mod:`saim_mm.zoo`.
        map_location: As for :func:`torch.load`. Defaults to None.

    Returns:
        dict: What was saved; of a safetensors file, ``state_dict``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is broken or incomplete, holds more than weights and
            plain data, or is not in the zoo.
    """
    path = locate(filename)
    if Path(path, REST).is_file():
        return load_folder(path)
    if path.is_dir():
        raise ValueError(
            f'checkpoint={str(filename)!r}: a folder without {REST}, so none '
            'that fsdp wrote to its end; take another'
        )
    if not path.is_file():
        raise FileNotFoundError(
            f'checkpoint={str(filename)!r}: no such file; set it to a '
            'checkpoint (init_cfg.checkpoint or load_from in a config)'
        )
    if path.suffix == '.safetensors':
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            weights = load_file(path)
        except SafetensorError as error:
            raise ValueError(
                f'checkpoint={str(filename)!r}: truncated, or not a '
                f'safetensors file ({error})'
            ) from error
        if path.parent == WEIGHTS:  # in half precision
            weights = {name: value.float() for name, value in weights.items()}
        return dict(state_dict=weights)
    if hasattr(torch.serialization, 'add_safe_globals'):  # PyTorch >= 2.4
        torch.serialization.add_safe_globals(_harmless())
    trusted = str(filename) in os.getenv(TRUSTED, '').split(os.pathsep)
    try:
        checkpoint = torch.load(
            path, map_location=map_location, weights_only=not trusted
        )
    except UnpicklingError as error:
        raise ValueError(
            f'checkpoint={str(filename)!r}: not loaded, because it is no '
            'checkpoint or holds Python objects, which can carry code. If you '
            'trust whoever made it with your computer, name it in the '
            f'environment: {TRUSTED}={str(filename)!r}. (PyTorch: '
            f'{str(error).splitlines()[0]})'
        ) from error
    except (RuntimeError, EOFError) as error:
        raise ValueError(
            f'checkpoint={str(filename)!r}: truncated, or not a checkpoint '
            f'({str(error).splitlines()[0] if str(error) else "empty"})'
        ) from error
    meta = checkpoint.get('meta') if isinstance(checkpoint, dict) else None
    if isinstance(meta, dict) and not trusted:
        # MMEngine would run this text, a config of the time before 2.0.
        meta.pop('config', None)
    return checkpoint


@CheckpointLoader.register_scheme(prefixes=('http://', 'https://'), force=True)
def load_from_http(url: str, map_location: Optional[Any] = None) -> dict:
    """Download a checkpoint, once, and load it as a local one.

    Args:
        url (str): Its address. It is kept in the folder of ``torch.hub``.
        map_location: As for :func:`torch.load`. Defaults to None.

    Returns:
        dict: As :func:`load_from_local`.

    Raises:
        ValueError: As :func:`load_from_local`.
    """
    folder = Path(torch.hub.get_dir(), 'checkpoints')
    path = folder / Path(urlparse(url).path).name
    # Names that end in -<hash> are checked.
    found = re.search(r'-([a-f0-9]{8,})\.', path.name)
    if get_local_rank() == 0 and not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, path, found and found[1])
    barrier()
    return load_from_local(path, map_location)


@CheckpointLoader.register_scheme(
    prefixes=tuple(f'{zoo}://' for zoo in ZOOS), force=True
)
def load_from_zoo(filename: str, map_location: Optional[Any] = None) -> dict:
    """Load a checkpoint of a zoo that MMEngine knows, by its address.

    Args:
        filename (str): ``torchvision://NAME`` or ``open-mmlab://NAME``.
        map_location: As for :func:`torch.load`. Defaults to None.

    Returns:
        dict: As :func:`load_from_local`.

    Raises:
        ValueError: If there is no such model; or as :func:`load_from_local`.
    """
    zoo, name = filename.split('://', 1)
    addresses = ZOOS[zoo]()
    address = addresses.get(name)
    if not str(address).startswith(('http://', 'https://')):
        raise ValueError(
            f'checkpoint={filename!r}: must be one of {sorted(addresses)}'
        )
    return load_from_http(address, map_location)


@CheckpointLoader.register_scheme(
    prefixes=(r'(\S+\:)?s3://', r'(\S+\:)?petrel://', 'pavi://', 'mmcls://'),
    force=True,
)
def refuse(filename: str, map_location: Optional[Any] = None) -> dict:
    """Load nothing: MMEngine's loaders for these may execute it.

    Args:
        filename (str): The address.
        map_location: Not used.

    Raises:
        ValueError: Always.
    """
    raise ValueError(
        f"checkpoint={filename!r}: not loaded, because MMEngine's loader for "
        'such addresses may execute what it loads; download the file, and '
        'give its path'
    )


def read_weights(filename: Union[str, Path]) -> dict[str, Tensor]:
    """The weights in a checkpoint.

    Args:
        filename (str | Path): A ``.safetensors`` file or PyTorch checkpoint,
            the weights at its top or under ``state_dict`` or ``model``.

    Returns:
        dict[str, Tensor]: On the CPU.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is broken, or has no weights there.
    """
    checkpoint = load_from_local(filename, map_location='cpu')
    for key in ('state_dict', 'model'):
        if isinstance(checkpoint, dict) and isinstance(
            checkpoint.get(key), dict
        ):
            checkpoint = checkpoint[key]
            break
    weights = (
        {k: v for k, v in checkpoint.items() if isinstance(v, Tensor)}
        if isinstance(checkpoint, dict)
        else {}
    )
    if not weights:
        raise ValueError(
            f'checkpoint={str(filename)!r}: must hold weights by name, at '
            "its top or under 'state_dict' or 'model'"
        )
    return weights


def write_weights(
    weights: dict[str, Tensor],
    filename: Union[str, Path],
    key: Optional[str] = 'state_dict',
) -> None:
    """Write weights, whole or not at all.

    Args:
        weights (dict[str, Tensor]): The weights.
        filename (str | Path): ``.safetensors``, or anything else for a
            PyTorch checkpoint. Its folder is made.
        key (str, optional): Under which they stand in a PyTorch checkpoint;
            None for its top. Defaults to 'state_dict'.
    """
    path = Path(filename)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(path)
    if path.suffix == '.safetensors':
        from safetensors.torch import save

        # Its own `save_file` makes files that nobody else may read.
        part.write_bytes(
            save(
                {k: v.contiguous() for k, v in weights.items()},
                metadata=dict(format='pt'),
            )
        )
    else:
        torch.save({key: weights} if key else weights, part)
    finish(path)


def part_of(path: Path) -> Path:
    """Where a file or folder is written, until it is whole."""
    return path.with_name(path.name + '.part')


def old_of(path: Path) -> Path:
    """Where a file or folder is, while another takes its place."""
    return path.with_name(path.name + '.old')


def remove(path: Path) -> None:
    """Remove a file or folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def finish(path: Path) -> None:
    """Put what was written to :func:`part_of` in place, if power fails too.

    Args:
        path (Path): The place. A file or folder that is there is replaced.
    """
    part, old = part_of(path), old_of(path)
    flush(*part.iterdir() if part.is_dir() else (), part)
    # Only a file replaces a file in one step. Others step aside, where
    # `find_checkpoints` finds them if the power fails before the next line.
    aside = path.is_dir() or (part.is_dir() and path.exists())
    if aside:
        remove(old)
        path.replace(old)
    try:
        part.replace(path)
    except OSError:
        if aside:
            old.replace(path)
        raise
    flush(path.parent)  # the new name
    remove(old)


def flush(*paths: Path) -> None:
    """Wait until files, or the names in folders, are on the disk."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """While a checkpoint is written, by all processes.

    Args:
        path (Path): Its place.

    Raises:
        OSError: If it was not written. What there is of it is removed.
    """
    try:
        yield
    except (OSError, RuntimeError, CheckpointException) as error:
        if is_main_process():
            with contextlib.suppress(OSError):
                remove(part_of(path))
        raise OSError(
            f'{path}: not written ({error}); the checkpoints before it are as '
            'they were'
        ) from error


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all.

    Args:
        path (Path): The file.
        content (bytes): Its content.
    """
    part_of(path).write_bytes(content)
    finish(path)
