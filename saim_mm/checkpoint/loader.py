"""The one door: from an address to weights, and weights to a file."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import torch
from mmengine.dist import get_local_rank
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import (
    get_external_models,
    get_torchvision_models,
)
from torch import Tensor

from ..utils.dist import run_or_raise_on_all
from .atomic import check_no_folder, commit, file_sha256, tmp_path
from .safe_load import CHECKSUM, checksum, load_plain
from .sharded import REST
from .zoo import SCHEME, WEIGHTS, resolve

#: Zoos whose models MMEngine finds by name: functions that give addresses.
ZOOS = {
    'modelzoo': get_torchvision_models,
    'torchvision': get_torchvision_models,
    'open-mmlab': get_external_models,
    'openmmlab': get_external_models,
}

HTTP = ('http://', 'https://')


def load_from_local(
    filename: str | Path, map_location: Any | None = None
) -> dict:
    """Load a checkpoint; MMEngine does so for every path through this.

    Args:
        filename: A file, the folder of a sharded checkpoint,
            ``saim_mm://NAME`` for weights of :mod:`saim_mm.checkpoint.zoo`, an
            address, or ``torchvision://NAME`` or ``open-mmlab://NAME``.
        map_location: As for :func:`~.safe_load.load_plain`.

    Returns:
        Plain data and tensors, as :func:`~.safe_load.load_plain` says.
        What others keep under ``model`` stands under ``state_dict``, where
        MMEngine looks (at the top it would find no weights, and go on).

    Raises:
        FileNotFoundError: If there is no such file.
        OSError: If it cannot be read, or downloaded.
        ValueError: If it is damaged or incomplete, holds more than weights
            and plain data, or is not in the zoo.
    """
    name = str(filename)
    path = find(filename)
    if path.is_dir() and not Path(path, REST).is_file():
        raise ValueError(
            f'checkpoint={name!r}: a folder without {REST}, so none '
            'that fsdp wrote to its end; take another'
        )
    if not path.exists():
        raise FileNotFoundError(
            f'checkpoint={name!r}: no such file; set it to a '
            'checkpoint (init_cfg.checkpoint or load_from in a config)'
        )
    if not path.is_dir() and not path.is_file():
        # Reading a pipe or a device might never end.
        raise ValueError(f'checkpoint={name!r}: must be a regular file')
    if path.name not in name:
        name = f'{name} ({path})'
    checkpoint = load_plain(path, map_location, name)
    if (
        isinstance(checkpoint, dict)
        and 'state_dict' not in checkpoint
        and isinstance(checkpoint.get('model'), dict)
    ):
        checkpoint['state_dict'] = checkpoint.pop('model')
    if path.parent == WEIGHTS:  # in half precision
        weights = checkpoint['state_dict']
        checkpoint['state_dict'] = {k: v.float() for k, v in weights.items()}
    return checkpoint


def load_from_address(address: str, map_location: Any | None = None) -> dict:
    """As :func:`load_from_local`; MMEngine's log calls it by this name."""
    return load_from_local(address, map_location)


def find(filename: str | Path) -> Path:
    """The file of a checkpoint, which is downloaded if it is elsewhere.

    Args:
        filename: As for :func:`load_from_local`.

    Returns:
        The file. It may not exist, if it is a path.

    Raises:
        OSError: If it cannot be downloaded.
        ValueError: If a zoo has no such model.
    """
    address = str(filename)
    zoo, _, name = address.partition('://')
    if zoo in ZOOS:
        addresses = ZOOS[zoo]()
        address = str(addresses.get(name))
        if not address.startswith(HTTP):
            raise ValueError(
                f'checkpoint={str(filename)!r}: must be one of '
                f'{sorted(addresses)}'
            )
    return download(address) if address.startswith(HTTP) else resolve(filename)


def download(address: str) -> Path:
    """Download a file, once on each machine.

    Args:
        address: Of http or https.

    Returns:
        Where it is kept, in the folder of ``torch.hub``, by a name that
        depends on the whole address.

    Raises:
        OSError: In all processes, if it does not arrive whole.
    """
    name = urlsplit(address).path.rsplit('/', 1)[-1][-80:]
    digest = hashlib.sha256(address.encode()).hexdigest()
    path = Path(torch.hub.get_dir(), 'checkpoints', f'{digest[:16]}-{name}')

    def fetch() -> None:
        if get_local_rank() == 0 and not path.is_file():
            _download(address, path)

    run_or_raise_on_all(fetch)
    return path


def _download(address: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'{path.name}.{os.getpid()}.part')
    request = Request(address, headers={'User-Agent': 'saim_mm'})
    try:
        with (
            urlopen(request, timeout=60) as response,
            open(part, 'wb') as file,
        ):
            shutil.copyfileobj(response, file, 2**20)
            length, size = response.headers['Content-Length'], file.tell()
        if length is not None and int(length) != size:
            raise OSError(f'{size} of {length} bytes came')
        # Names that end in -<hash> say what their content is.
        found = re.search(r'-([a-f0-9]{8,64})\.', path.name.split('-', 1)[1])
        if found and not file_sha256(part).startswith(found[1]):
            raise OSError(f'its SHA-256 does not begin with {found[1]}')
        part.replace(path)
    except OSError as error:
        raise OSError(
            f'checkpoint={address!r}: not downloaded ({error})'
        ) from error
    finally:
        part.unlink(missing_ok=True)


def unsupported_scheme(filename: str, map_location: Any | None = None) -> dict:
    """Load nothing: MMEngine's loaders for these may execute it.

    Raises:
        ValueError: Always.
    """
    raise ValueError(
        f"checkpoint={filename!r}: not loaded, because MMEngine's loader for "
        'such addresses may execute what it loads; download the file, and '
        'give its path'
    )


def load_state_dict(filename: str | Path) -> dict[str, Tensor]:
    """The weights in a checkpoint.

    Args:
        filename: As for :func:`load_from_local`; the weights at its top or
            under ``state_dict`` or ``model``.

    Returns:
        On the CPU, without the ``module.`` that wrappers
        of distributed training put before all names.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, or has no weights there.
    """
    checkpoint = load_from_local(filename)
    if isinstance(checkpoint, dict):
        given = checkpoint.get('state_dict')
        checkpoint = given if isinstance(given, dict) else checkpoint
    weights = (
        {k: v for k, v in checkpoint.items() if isinstance(v, Tensor)}
        if isinstance(checkpoint, dict)
        else {}
    )
    if not weights or not all(isinstance(name, str) for name in weights):
        raise ValueError(
            f'checkpoint={str(filename)!r}: must hold weights by name, at '
            "its top or under 'state_dict' or 'model'"
        )
    wrapper = 'module.'
    if all(name.startswith(wrapper) for name in weights):
        weights = {n.removeprefix(wrapper): v for n, v in weights.items()}
    return weights


def save_state_dict(
    weights: dict[str, Tensor],
    filename: str | Path,
    key: str | None = 'state_dict',
) -> None:
    """Write weights, whole or not at all, with checksums.

    Args:
        filename: ``.safetensors``, or anything else for a PyTorch checkpoint.
            Its folder is made.
        key: Under which they stand in a PyTorch checkpoint; None for its top.

    Raises:
        IsADirectoryError: If a folder is there.
    """
    path = Path(filename)
    check_no_folder(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = tmp_path(path)
    if path.suffix == '.safetensors':
        from safetensors.torch import save

        weights = {k: v.contiguous() for k, v in weights.items()}
        metadata = {'format': 'pt', CHECKSUM: checksum(weights)}
        # Its own `save_file` makes files that nobody else may read.
        part.write_bytes(save(weights, metadata=metadata))
    else:  # with a CRC-32 of each part
        torch.save({key: weights} if key else weights, part)
    commit(path)


def register_loaders() -> None:
    """Make these MMEngine's loaders, for each scheme that it knows."""
    loaders: dict[Callable, tuple[str, ...]] = {
        load_from_local: (SCHEME, ''),
        load_from_address: (*HTTP, *(f'{zoo}://' for zoo in ZOOS)),
        unsupported_scheme: (
            *(r'(\S+\:)?s3://', r'(\S+\:)?petrel://', 'pavi://', 'mmcls://'),
        ),
    }
    for loader, prefixes in loaders.items():
        CheckpointLoader.register_scheme(prefixes, loader, force=True)
