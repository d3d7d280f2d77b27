"""The fixed sine-cosine position embedding."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def sincos_position_embedding(
    grid: tuple[int, int], embed_dims: int
) -> Tensor:
    """Fixed 2-D sine-cosine position embedding, as MAE's and the authors'.

    The first half of the channels encodes the column, the second half the
    row (mmpretrain's helper has the halves the other way round).

    Args:
        grid: Rows and columns of patches.
        embed_dims: Channels C, a multiple of 4.

    Returns:
        (rows * columns, C), patches in row-major order.
    """
    rows, columns = (torch.arange(n, dtype=torch.float64) for n in grid)
    row, column = torch.meshgrid(rows, columns, indexing='ij')
    quarter = embed_dims // 4
    omega = 10000 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    angles = [x.reshape(-1, 1) * omega for x in (column, row)]  # (L, C/4)
    return torch.cat(
        [f(a) for a in angles for f in (torch.sin, torch.cos)], dim=1
    ).to(torch.get_default_dtype())


def initial_pos_embed(vit: nn.Module) -> Tensor:
    """The embedding of a SAIMViT's patches, zero for its class token.

    Returns:
        (1, L + 1, C), or (1, L, C) without a class token.
    """
    patches = sincos_position_embedding(vit.patch_resolution, vit.embed_dims)
    extra = patches.new_zeros(vit.num_extra_tokens, vit.embed_dims)
    return torch.cat([extra, patches]).unsqueeze(0)
