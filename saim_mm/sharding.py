"""Fully sharded training (FSDP), and checkpoints that fit any number of GPUs.

Every process keeps its part of the weights, gradients and averages of the
optimiser, and gathers the weights of a block when it computes it. The work is
done by PyTorch's ``fully_shard`` and ``torch.distributed.checkpoint``; its
safetensors form, unlike its own, has no pickles.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Optional

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import get_world_size
from torch import Tensor, nn

from .algorithm import is_pretraining
from .errors import check, together
from .layers import TransformerBlock

try:
    from torch.distributed.fsdp import FSDPModule, fully_shard
except ImportError:  # PyTorch < 2.6
    FSDPModule = ()

#: The file of a sharded checkpoint that holds all but tensors.
REST = 'rest.pth'


def check_fsdp(cfg: Config) -> None:
    """Refuse what fully sharded training cannot do.

    Args:
        cfg (Config): The config.

    Raises:
        ValueError: Naming what does not go together with ``fsdp``.
    """
    fsdp = cfg.get('fsdp', False)
    if not fsdp:
        return
    check(
        FSDPModule != ()
        and hasattr(torch.distributed.checkpoint, 'hf_storage'),
        'fsdp',
        fsdp,
        f'False with PyTorch {torch.__version__}, which lacks what it '
        'needs; 2.12 has it',
    )
    check(
        is_pretraining(cfg),
        'fsdp',
        fsdp,
        f'False for model.type={cfg.model.type!r}: it is for pre-training',
    )
    check(
        not cfg.get('compile'),
        'compile',
        cfg.get('compile'),
        f'False with fsdp={fsdp!r}: the gathering of weights is no part of '
        'one graph',
    )
    hooks = [hook.get('type') for hook in cfg.get('custom_hooks') or []]
    check(
        'ReconstructionHook' not in hooks,
        'custom_hooks',
        'ReconstructionHook',
        f'left out with fsdp={fsdp!r}: one process has not all weights',
    )
    wrapper = cfg.optim_wrapper.get('type')
    check(
        wrapper != 'AmpOptimWrapper',
        'optim_wrapper.type',
        wrapper,
        f'BFloat16OptimWrapper or OptimWrapper with fsdp={fsdp!r} (leave out '
        '--amp): the scaler of float16 does not see all parts',
    )


def shard(model: nn.Module) -> nn.Module:
    """Share a model out among the processes.

    Each transformer block is a unit that is gathered when it is computed;
    what is between them is another.

    Args:
        model (nn.Module): With its weights, the same in all processes.
            Changed in place.

    Returns:
        nn.Module: The model. Its parameters are ``DTensor``.
    """
    mesh = torch.distributed.init_device_mesh(
        get_device(), (get_world_size(),)
    )
    for module in model.modules():
        if isinstance(module, TransformerBlock):
            fully_shard(module, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def is_sharded(model: nn.Module) -> bool:
    """Whether a model is shared out."""
    return isinstance(model, FSDPModule)


def tensors_of(checkpoint: Mapping) -> dict[str, Tensor]:
    """The tensors of a checkpoint's weights and optimiser.

    Args:
        checkpoint (Mapping): As MMEngine's runner makes it.

    Returns:
        dict[str, Tensor]: By names as ``state_dict.NAME`` and
        ``optimizer.0.exp_avg``, of the first parameter.
    """
    named = {f'state_dict.{k}': v for k, v in checkpoint['state_dict'].items()}
    states = checkpoint.get('optimizer', {}).get('state', {})
    for number, state in states.items():
        for key, value in state.items():
            if isinstance(value, Tensor):
                named[f'optimizer.{number}.{key}'] = value
    return named


def leave_out_tensors(checkpoint: dict) -> None:
    """Take out of a checkpoint what :func:`tensors_of` finds.

    Args:
        checkpoint (dict): Changed in place; it keeps their ``shapes``.
    """
    named = tensors_of(checkpoint)
    checkpoint['shapes'] = {k: tuple(v.shape) for k, v in named.items()}
    checkpoint['state_dict'] = {}
    if 'optimizer' in checkpoint:
        checkpoint['optimizer'] = {**checkpoint['optimizer'], 'state': {}}


def write_tensors(checkpoint: Mapping, folder: Path) -> None:
    """Write the tensors of a checkpoint, each process its part.

    Args:
        checkpoint (Mapping): ``state_dict`` and ``optimizer``.
        folder (Path): Made anew.
    """
    from torch.distributed.checkpoint import save
    from torch.distributed.checkpoint.hf_storage import (
        HuggingFaceStorageWriter,
    )

    from .checkpoint import remove

    def make() -> None:
        remove(folder)  # of a killed training
        folder.mkdir(parents=True)

    together(make, main_only=True)
    save(
        tensors_of(checkpoint),
        storage_writer=HuggingFaceStorageWriter(
            str(folder), save_distributed=True
        ),
    )


def load_folder(folder: Path) -> dict:
    """Load a sharded checkpoint as an ordinary one.

    Args:
        folder (Path): The checkpoint, of any number of processes.

    Returns:
        dict: With whole tensors, on the CPU.

    Raises:
        ValueError: If it is no such checkpoint, or parts are missing or
            broken.
    """
    from safetensors import SafetensorError
    from torch.distributed.checkpoint import load
    from torch.distributed.checkpoint.hf_storage import (
        HuggingFaceStorageReader,
    )

    from .checkpoint import load_from_local

    field = f'checkpoint={str(folder)!r}'
    if not (folder / REST).is_file():
        raise ValueError(
            f'{field}: has no {REST}, so it was not written to its end; take '
            'an older one'
        )
    checkpoint = load_from_local(folder / REST, 'cpu')
    for key in ('shapes', 'state_dict'):
        if not isinstance(checkpoint, dict) or key not in checkpoint:
            raise ValueError(
                f'{field}: its {REST} has no {key!r}, so it is none of fsdp; '
                'take another'
            )
    shapes = checkpoint.pop('shapes')
    try:
        reader = HuggingFaceStorageReader(str(folder))
        saved = reader.read_metadata().state_dict_metadata
        for name, shape in shapes.items():
            number = torch.Size(shape).numel()
            parts = saved[name].chunks if name in saved else ()
            parts = [part for part in parts if part.sizes.numel()]
            if sum(part.sizes.numel() for part in parts) != number:
                raise ValueError(f'{field}: parts of {name} are missing')
            # Files that do not say where their parts begin seem to overlap.
            if len({part.offsets for part in parts}) != len(parts):
                raise ValueError(
                    f'{field}: its files do not say which parts of {name} '
                    'they have; another program wrote them'
                )
        named = {
            name: torch.empty(shape, dtype=saved[name].properties.dtype)
            for name, shape in shapes.items()
        }
        load(named, storage_reader=reader, no_dist=True)
    except SafetensorError as error:
        raise ValueError(
            f'{field}: truncated, or not safetensors files ({error})'
        ) from error
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f'{field}: its safetensors files lack what says which parts they '
            f'have ({error!r}); another program wrote them'
        ) from error
    for name, value in named.items():
        kind, name = name.split('.', 1)
        if kind == 'state_dict':
            checkpoint['state_dict'][name] = value
        else:
            number, key = name.split('.')
            states = checkpoint['optimizer']['state']
            states.setdefault(int(number), {})[key] = value
    return checkpoint


def share_out(
    checkpoint: dict,
    model: nn.Module,
    optimizer: Optional[torch.optim.Optimizer] = None,
) -> None:
    """Cut the tensors of an ordinary checkpoint as those of a sharded model.

    Args:
        checkpoint (dict): Changed in place.
        model (nn.Module): The sharded model.
        optimizer (torch.optim.Optimizer, optional): Its optimiser.
    """
    from torch.distributed.tensor import DTensor, distribute_tensor

    def cut(value: Tensor, like: Optional[Tensor]) -> Tensor:
        if not isinstance(like, DTensor) or value.shape != like.shape:
            return value
        return distribute_tensor(
            value.to(get_device()),
            like.device_mesh,
            like.placements,
            src_data_rank=None,  # every process has read it
        )

    weights = checkpoint.get('state_dict', checkpoint)
    for name, like in model.state_dict().items():
        if name in weights:
            weights[name] = cut(weights[name], like)
    if optimizer is None or 'optimizer' not in checkpoint:
        return
    parameters = [p for g in optimizer.param_groups for p in g['params']]
    for number, state in checkpoint['optimizer']['state'].items():
        for key, value in state.items():
            if isinstance(value, Tensor):
                state[key] = cut(value, parameters[number])
