"""PyTorch's files, read without PyTorch's unpickler.

A zip archive, or (before PyTorch 1.6) pickles and numbers one behind the
other. Of the pickle :mod:`.pickle_data` makes a tree of records; what is known
among these becomes a tensor or plain data here, and nothing else is let
through. :func:`torch.load` is not used: with ``weights_only=True`` it still
calls PyTorch's own functions with whatever the file says, which several of its
releases let run code or read foreign memory.
"""

from __future__ import annotations

import sys
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .errors import FormatError
from .pickle_data import Instance, Reference, read_pickle
from .tree import Storage, TreeBuilder, from_bytes

#: What the two first pickles of the format before 1.6 hold.
MAGIC_NUMBER, PROTOCOL_VERSION = 0x1950A86A20F9469CFC6C, 1001


def read_torch(path: Path) -> Any:
    """Read a PyTorch checkpoint.

    Returns:
        A tree of dict, list, tuple, str, int, float, bool, None and Tensor,
        on the CPU.

    Raises:
        FormatError: If it holds anything else.
        Exception: Of any kind, if it is damaged.
    """
    with open(path, 'rb') as file:
        is_zip = file.read(2) == b'PK'
    return (_read_zip if is_zip else _read_legacy)(path)


def _read_zip(path: Path) -> Any:
    """A zip archive; of each part ``zipfile`` verifies the CRC-32."""
    with zipfile.ZipFile(path) as archive:
        parts = {info.filename: info for info in archive.infolist()}
        # Others would read another part, or the file before this one.
        first = min((i.header_offset for i in parts.values()), default=0)
        if first or len(parts) != len(archive.infolist()):
            raise FormatError('a zip archive in which others read other parts')
        roots = [
            n[: -len('data.pkl')] for n in parts if n.endswith('data.pkl')
        ]
        if len(roots) != 1 or f'{roots[0]}constants.pkl' in parts:
            raise FormatError(
                'a zip archive that torch.save did not write; of TorchScript '
                'save the state_dict'
            )
        # Bombs are compressed, or have parts that overlap.
        if any(i.compress_type != zipfile.ZIP_STORED for i in parts.values()):
            raise FormatError('a compressed part, which PyTorch never writes')
        if sum(i.file_size for i in parts.values()) > path.stat().st_size:
            raise FormatError('parts of it overlap')
        (root,) = roots
        if f'{root}byteorder' in parts:
            order = archive.read(f'{root}byteorder').decode()
            if order != sys.byteorder:
                raise FormatError(f'from a {order}-endian machine')
        pickled = archive.read(f'{root}data.pkl')

        def read(storage: Storage) -> Tensor:
            info = parts[f'{root}data/{storage.key}']
            if storage.nbytes != info.file_size:
                raise FormatError('numbers of another length than it says')
            with archive.open(info) as part:
                return _read_part(part, info.file_size).view(storage.dtype)

        tree = read_pickle(BytesIO(pickled))
        return TreeBuilder(len(pickled), read).build(tree)


def _read_part(part: Any, size: int) -> Tensor:
    """The bytes of a part; at its end ``zipfile`` compares the CRC-32."""
    content = torch.empty(size, dtype=torch.uint8)
    view, start = memoryview(content.numpy().data), 0
    while start < size:
        chunk = part.read(min(size - start, 2**24))
        view[start : start + len(chunk)] = chunk
        start += len(chunk)
        if not chunk:
            raise FormatError('a part of it is cut off')
    part.read()
    return content


def _read_legacy(path: Path) -> Any:
    """Pickles, then for each storage its length and its numbers."""
    content = path.read_bytes()
    file = BytesIO(content)
    if read_pickle(file) != MAGIC_NUMBER or read_pickle(file) != (
        PROTOCOL_VERSION
    ):
        raise FormatError('not a checkpoint of PyTorch')
    read_pickle(file)  # sizes of the numbers of the machine that wrote it
    tree = read_pickle(file)
    start = file.tell()
    keys = read_pickle(file)
    storages = {s.key: s for s in map(Storage.of, _references(tree))}
    where, position = {}, file.tell()
    for key in keys:
        if type(key) is not str:
            raise FormatError('numbers without a name')
        size = int.from_bytes(content[position : position + 8], 'little')
        begin, end = position + 8, position + 8 + storages[key].nbytes
        if size != storages[key].number or end > len(content):
            raise FormatError('truncated, or numbers of another length')
        where[key], position = slice(begin, end), end

    def read(storage: Storage) -> Tensor:
        return from_bytes(content[where[storage.key]], storage.dtype)

    return TreeBuilder(start, read).build(tree)


def _references(tree: Any) -> list[Reference]:
    """All of a tree that may be deep, and may contain itself."""
    found, seen, left = [], set(), [tree]
    while left:
        value = left.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if type(value) is Reference:
            found.append(value)
        elif type(value) is dict:
            left += value.values()
        elif type(value) in (list, tuple):
            left += value
        elif type(value) is Instance:
            left += [value.args, value.state, value.elements, value.items]
    return found
