"""The one function that reads every checkpoint: plain data, or an error."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .errors import CodeError, FormatError, errors_named
from .plain import rebuild_state
from .sharded import load_folder
from .torch_file import read_torch

#: Where safetensors files of this package keep the checksum.
CHECKSUM = 'sha256'


def load_plain(
    path: Path, map_location: Any = None, name: str | None = None
) -> Any:
    """Read a checkpoint: a file of PyTorch, safetensors, or a folder of fsdp.

    Nothing in it is executed, imported or called. Damage that the file can
    show (by the CRC-32 in a file of PyTorch, by the checksum in safetensors
    that this package wrote) is an error.

    Args:
        path: The file, or folder.
        map_location: Where tensors go; anything else that :func:`torch.load`
            takes means the CPU. Defaults to None, the CPU.
        name: What errors call it. Defaults to None, the path.

    Returns:
        A tree of dict, list, tuple, str, int, float, bool, None and Tensor;
        of a safetensors file a dict with ``state_dict``. What a training left
        in it is as :func:`~.plain.rebuild_state` says.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is damaged, or holds anything else.
    """
    with errors_named(name or str(path)):
        if path.is_dir():
            tree = load_folder(path)
        elif is_safetensors(path):
            tree = dict(state_dict=_read_safetensors(path))
        else:
            tree = read_torch(path)
        check_plain(tree)
        tree = rebuild_state(tree, path.parent)
    if isinstance(map_location, (str, torch.device)):
        tree = _move(tree, torch.device(map_location), {})
    return tree


def _move(tree: Any, device: torch.device, moved: dict[int, Tensor]) -> Any:
    """Put tensors on a device; those that share their memory still do."""
    if isinstance(tree, Tensor) and tree.device != device:
        storage = tree.untyped_storage()
        key = storage.data_ptr()
        if key not in moved:
            flat = torch.empty(0, dtype=torch.uint8).set_(storage)
            moved[key] = flat.to(device)
        return tree.new_empty(0, device=device).set_(
            moved[key].untyped_storage(),
            tree.storage_offset(),
            tree.shape,
            tree.stride(),
        )
    if isinstance(tree, dict):
        for key, value in tree.items():
            tree[key] = _move(value, device, moved)
    elif isinstance(tree, (list, tuple)):
        return type(tree)(_move(value, device, moved) for value in tree)
    return tree


def check_plain(tree: Any) -> None:
    """Refuse anything but plain data and tensors.

    Args:
        tree: What was read.

    Raises:
        CodeError: If something else stands in it.
    """
    left = [tree]
    while left:
        value = left.pop()
        kind = type(value)
        if kind in (dict, OrderedDict):
            left += value
            left += value.values()
        elif kind in (list, tuple):
            left += value
        elif kind not in (str, int, float, bool, type(None), Tensor):
            raise CodeError(str(kind))


def is_safetensors(path: Path) -> bool:
    """Whether a file is named so, or begins as one does."""
    with open(path, 'rb') as file:
        start = file.read(9)
    length = int.from_bytes(start[:8], 'little')
    return path.suffix == '.safetensors' or (
        start[8:] == b'{' and length < path.stat().st_size
    )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import safe_open

    with safe_open(path, 'pt') as file:
        expected = (file.metadata() or {}).get(CHECKSUM)
        weights = {name: file.get_tensor(name) for name in file.keys()}
    if expected not in (None, checksum(weights)):
        raise FormatError(
            'damaged: its weights have another checksum than it says'
        )
    return weights


def checksum(weights: dict[str, Tensor]) -> str:
    """SHA-256 of weights by name.

    Args:
        weights: On the CPU.

    Returns:
        In hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        head = [name, str(value.dtype), list(value.shape)]
        digest.update(json.dumps(head).encode())
        if value.numel():
            flat = value.detach().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()
