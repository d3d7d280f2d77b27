"""Fully sharded training (FSDP), and checkpoints that fit any number of GPUs.

Every process keeps its part of the weights, gradients and averages of the
optimiser, and gathers the weights of a block when it computes it. The work is
done by PyTorch's ``fully_shard`` and ``torch.distributed.checkpoint``; its
safetensors form, unlike its own, has no pickles.
"""

from __future__ import annotations

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import get_world_size
from torch import Tensor, nn

from ..models.layers import TransformerBlock
from ..models.saim import is_pretraining
from ..utils.check import check_arg

try:
    from torch.distributed.fsdp import FSDPModule, fully_shard
except ImportError:  # PyTorch < 2.6
    FSDPModule = ()


def check_fsdp(cfg: Config) -> None:
    """Refuse what fully sharded training cannot do.

    Raises:
        ValueError: Naming what does not go together with ``fsdp``.
    """
    fsdp = cfg.get('fsdp', False)
    if not fsdp:
        return
    check_arg(
        FSDPModule != ()
        and hasattr(torch.distributed.checkpoint, 'hf_storage'),
        'fsdp',
        fsdp,
        f'False with PyTorch {torch.__version__}, which lacks what it '
        'needs; 2.12 has it',
    )
    check_arg(
        is_pretraining(cfg),
        'fsdp',
        fsdp,
        f'False for model.type={cfg.model.type!r}: it is for pre-training',
    )
    check_arg(
        not cfg.get('compile'),
        'compile',
        cfg.get('compile'),
        f'False with fsdp={fsdp!r}: the two have not been tried together',
    )
    order = cfg.model.get('order')
    check_arg(
        not isinstance(order, dict) or order.get('similarity') != 'self',
        'model.order.similarity',
        'self',
        f"'cls' or 'gap' with fsdp={fsdp!r}: it looks into a block whose "
        'weights are shared out',
    )
    hooks = [hook.get('type') for hook in cfg.get('custom_hooks') or []]
    check_arg(
        'ReconstructionHook' not in hooks,
        'custom_hooks',
        'ReconstructionHook',
        f'left out with fsdp={fsdp!r}: one process has not all weights',
    )
    wrapper = cfg.optim_wrapper.get('type')
    check_arg(
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
        model: With its weights, the same in all processes. Changed in place.

    Returns:
        The model. Its parameters are ``DTensor``.
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


def distribute_state_dict(
    checkpoint: dict,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
) -> None:
    """Cut the tensors of an ordinary checkpoint as those of a sharded model.

    Args:
        checkpoint: Changed in place.
        model: The sharded model.
        optimizer: Its optimiser.
    """
    from torch.distributed.tensor import DTensor, distribute_tensor

    def distribute(value: Tensor, like: Tensor | None) -> Tensor:
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
            weights[name] = distribute(weights[name], like)
    if optimizer is None or 'optimizer' not in checkpoint:
        return
    parameters = [p for g in optimizer.param_groups for p in g['params']]
    for number, state in checkpoint['optimizer']['state'].items():
        for key, value in state.items():
            if isinstance(value, Tensor):
                state[key] = distribute(value, parameters[number])
