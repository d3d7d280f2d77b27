"""Checkpoints of fully sharded training, folders for any number of GPUs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..utils.dist import run_or_raise_on_all
from .atomic import file_sha256, remove
from .errors import CheckpointError, FormatError, errors_named
from .torch_file import read_torch

#: The file of a sharded checkpoint that holds all but tensors.
REST = 'rest.pth'

#: The file with the SHA-256 of those that hold tensors.
CHECKSUMS = 'sha256.json'


def flatten_tensors(checkpoint: Mapping) -> dict[str, Tensor]:
    """The tensors of a checkpoint's weights and optimiser.

    Args:
        checkpoint: As MMEngine's runner makes it.

    Returns:
        By names as ``state_dict.NAME`` and
        ``optimizer.0.exp_avg``, of the first parameter.
    """
    named = {f'state_dict.{k}': v for k, v in checkpoint['state_dict'].items()}
    states = checkpoint.get('optimizer', {}).get('state', {})
    for number, state in states.items():
        for key, value in state.items():
            if isinstance(value, Tensor):
                named[f'optimizer.{number}.{key}'] = value
    return named


def strip_tensors(checkpoint: dict) -> None:
    """Take out of a checkpoint what :func:`flatten_tensors` finds.

    Args:
        checkpoint: Changed in place; it keeps their ``shapes``.
    """
    named = flatten_tensors(checkpoint)
    checkpoint['shapes'] = {k: tuple(v.shape) for k, v in named.items()}
    checkpoint['state_dict'] = {}
    if 'optimizer' in checkpoint:
        checkpoint['optimizer'] = {**checkpoint['optimizer'], 'state': {}}


def write_tensors(checkpoint: Mapping, folder: Path) -> None:
    """Write the tensors of a checkpoint, each process its part.

    Args:
        checkpoint: ``state_dict`` and ``optimizer``.
        folder: Made anew.
    """
    from torch.distributed.checkpoint import save
    from torch.distributed.checkpoint.hf_storage import (
        HuggingFaceStorageWriter,
    )

    def make() -> None:
        remove(folder)  # of a killed training
        folder.mkdir(parents=True)

    run_or_raise_on_all(make, main_only=True)
    save(
        flatten_tensors(checkpoint),
        storage_writer=HuggingFaceStorageWriter(
            str(folder), save_distributed=True
        ),
    )

    def note() -> None:
        (folder / CHECKSUMS).write_text(json.dumps(_checksums(folder)))

    run_or_raise_on_all(note, main_only=True)


def _checksums(folder: Path) -> dict[str, str]:
    files = sorted(folder.glob('*.safetensors'))
    return {path.name: file_sha256(path) for path in files}


def load_folder(folder: Path) -> dict:
    """Load a sharded checkpoint as an ordinary one.

    Args:
        folder: The checkpoint, of any number of processes.

    Returns:
        With whole tensors, on the CPU.

    Raises:
        ValueError: If it is no such checkpoint, or parts are missing or
            broken.
    """
    field = f'checkpoint={str(folder)!r}'
    if not (folder / REST).is_file():
        raise CheckpointError(
            f'{field}: has no {REST}, so it was not written to its end; take '
            'an older one'
        )
    with errors_named(str(folder / REST)):
        checkpoint = read_torch(folder / REST)
    for key in ('shapes', 'state_dict'):
        if not isinstance(checkpoint, dict) or key not in checkpoint:
            raise CheckpointError(
                f'{field}: its {REST} has no {key!r}, so it is none of fsdp; '
                'take another'
            )
    with errors_named(str(folder)):
        named = _read_tensors(folder, checkpoint.pop('shapes'))
        for name, value in named.items():
            kind, name = name.split('.', 1)
            if kind == 'state_dict':
                checkpoint['state_dict'][name] = value
            else:
                number, key = name.split('.')
                states = checkpoint['optimizer']['state']
                states.setdefault(int(number), {})[key] = value
    return checkpoint


def _read_tensors(folder: Path, shapes: dict) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from torch.distributed.checkpoint import load
    from torch.distributed.checkpoint.hf_storage import (
        HuggingFaceStorageReader,
    )

    try:
        reader = HuggingFaceStorageReader(str(folder))
        saved: Any = reader.read_metadata().state_dict_metadata
        for name, shape in shapes.items():
            number = torch.Size(shape).numel()
            parts = saved[name].chunks if name in saved else ()
            parts = [part for part in parts if part.sizes.numel()]
            if sum(part.sizes.numel() for part in parts) != number:
                raise FormatError(f'parts of {name} are missing')
            # Files that do not say where their parts begin seem to overlap.
            if len({part.offsets for part in parts}) != len(parts):
                raise FormatError(
                    f'its files do not say which parts of {name} '
                    'they have; another program wrote them'
                )
        named = {
            name: torch.empty(shape, dtype=saved[name].properties.dtype)
            for name, shape in shapes.items()
        }
        load(named, storage_reader=reader, no_dist=True)
    except SafetensorError as error:
        raise FormatError(
            f'truncated, or not safetensors files ({error})'
        ) from error
    except (KeyError, TypeError, AttributeError) as error:
        raise FormatError(
            'its safetensors files lack what says which parts they '
            f'have ({error!r}); another program wrote them'
        ) from error
    digests = folder / CHECKSUMS
    if digests.is_file() and json.loads(digests.read_text()) != _checksums(
        folder
    ):
        raise FormatError(
            f'damaged: its files have other checksums than {CHECKSUMS} says'
        )
    return named
