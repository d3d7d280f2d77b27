"""Checkpoints: safetensors, or pickles of which nothing is executed."""

import re
from pathlib import Path
from typing import Any, Optional, Union
from urllib.parse import urlparse

import torch
from mmengine.dist import barrier, get_local_rank
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import (
    get_external_models,
    get_torchvision_models,
)
from torch import Tensor

from .atomic import commit, tmp_path
from .safe_load import load_pickle
from .sharded import REST, load_folder
from .zoo import SCHEME, WEIGHTS, resolve

#: Zoos whose models MMEngine finds by name: functions that give addresses.
ZOOS = {
    'modelzoo': get_torchvision_models,
    'torchvision': get_torchvision_models,
    'open-mmlab': get_external_models,
    'openmmlab': get_external_models,
}


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
    path = resolve(filename)
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
    return load_pickle(path, map_location, str(filename))


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
def unsupported_scheme(
    filename: str, map_location: Optional[Any] = None
) -> dict:
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


def load_state_dict(filename: Union[str, Path]) -> dict[str, Tensor]:
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


def save_state_dict(
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
    part = tmp_path(path)
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
    commit(path)


def register_loaders() -> None:
    """Make these MMEngine's loaders, for each scheme that it knows."""
    for prefixes, loader in (
        ((SCHEME, ''), load_from_local),
        (('http://', 'https://'), load_from_http),
        (tuple(f'{zoo}://' for zoo in ZOOS), load_from_zoo),
        (
            (r'(\S+\:)?s3://', r'(\S+\:)?petrel://', 'pavi://', 'mmcls://'),
            unsupported_scheme,
        ),
    ):
        CheckpointLoader.register_scheme(prefixes, loader, force=True)
