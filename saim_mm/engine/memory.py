"""How many images at a time fit into the memory of a GPU."""

from __future__ import annotations

import math

import torch
from mmengine.device import get_device
from mmpretrain.models.utils import to_2tuple

from ..models.vit import SAIMViT

#: Bytes that a step keeps of each token, channel and block, in float32 and
#: with mixed precision, rounded up: what an image more takes of the peak that
#: ``tools/benchmarks/pretrain.py`` measures, on a CPU (ViT-S/16 of 224 pixels
#: 69, the study's miniature 73 and 45).
BYTES, MIXED = 75, 50
#: Of a parameter: itself, its gradient, and two of AdamW's.
STATE = 16
#: The share of the memory that is counted on.
SHARE = 0.75


def gpu_memory() -> int | None:
    """Bytes of the GPU that is trained on; None without one."""
    if get_device() != 'cuda':
        return None
    return torch.cuda.get_device_properties(0).total_memory


def cut(batch: int) -> int:
    """A batch that has parts of many sizes, where a GPU may need some."""
    few = batch < 16 or gpu_memory() is None
    return batch if few else batch - batch % 16


def images_at_a_time(
    batch: int, backbone: dict, wrapper: str, decoder: bool = False
) -> int:
    """The largest part of a batch that fits, and divides it.

    Args:
        batch: Images of a step of the optimiser.
        backbone: Config of the encoder.
        wrapper: The type of the ``optim_wrapper``.
        decoder: Whether there is one, as large as the encoder.

    Returns:
        All of the batch without a GPU.
    """
    memory = gpu_memory()
    if memory is None:
        return batch
    arch = SAIMViT.parse_arch(backbone['arch'])
    width, blocks = arch['embed_dims'], arch['num_layers'] * (1 + decoder)
    weights = 2 * width * (2 * width + arch['feedforward_channels']) * blocks
    sides = to_2tuple(backbone['img_size'])
    patch = backbone.get('patch_size', 16)  # as SAIMViT's
    tokens = math.prod(side // patch for side in sides)
    image = (
        (BYTES if wrapper == 'OptimWrapper' else MIXED)
        * blocks
        * tokens
        * width
    )
    fit = (SHARE * memory - STATE * weights) // image
    return max(
        n for n in range(1, batch + 1) if batch % n == 0 and n <= max(fit, 1)
    )
