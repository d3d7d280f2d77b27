"""The transformer block that encoder, decoder and prediction head share."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from mmcv.cnn.bricks import DropPath
from mmcv.cnn.bricks.transformer import FFN
from mmengine.model import BaseModule
from mmpretrain.models.backbones.vit_sam import (
    window_partition,
    window_unpartition,
)
from torch import Tensor, nn

from ..utils.check import check_arg
from .attention import attend, is_plain, split_heads


class Attention(BaseModule):
    """Multi-head attention of a stream to itself or to another stream.

    Its parameters have the names and shapes of mmpretrain's
    ``MultiheadAttention``, and of ``ViTSAM``'s for relative positions.

    Args:
        embed_dims: Channels C of both streams.
        num_heads: Number of heads; divides ``embed_dims``.
        qkv_bias: Whether queries, keys and values have a bias.
        window_size: On a grid of patches, side of the windows that attend
            within themselves (ViTDet, Sec. 3); 0: the whole grid attends.
        rel_pos_grid: Rows and columns of patches for which to learn a
            decomposed relative position bias (MViTv2, Eq. 4 and 5); that of
            another grid is interpolated. Defaults to None, no such bias.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        qkv_bias: bool = True,
        window_size: int = 0,
        rel_pos_grid: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        check_arg(
            embed_dims % num_heads == 0,
            'num_heads',
            num_heads,
            f'a divisor of embed_dims={embed_dims}',
        )
        self.num_heads = num_heads
        self.window_size = window_size
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims, bias=qkv_bias)
        self.proj = nn.Linear(embed_dims, embed_dims)
        self.use_rel_pos = rel_pos_grid is not None
        if self.use_rel_pos:
            if window_size:
                rel_pos_grid = (window_size, window_size)
            self.rel_pos_h, self.rel_pos_w = (
                nn.Parameter(
                    torch.zeros(2 * size - 1, embed_dims // num_heads)
                )
                for size in rel_pos_grid
            )

    def init_weights(self) -> None:
        """Xavier-uniform, with q, k and v as three matrices of their own."""
        super().init_weights()
        for weight in (*self.qkv.weight.chunk(3), self.proj.weight):
            nn.init.xavier_uniform_(weight)
        for linear in (self.qkv, self.proj):
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        is_causal: bool = False,
        grid: tuple[int, int] | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Attend from ``x`` to ``context``.

        Args:
            x: (B, T, C), gives the queries.
            context: (B, T', C), gives keys and values. Defaults to None, then
                ``x`` does.
            is_causal: Whether query t sees the keys 1..t only.
            grid: Rows and columns of the patches in ``x``, which are its last
                rows * columns tokens; windows and relative positions need it.
            mask: bool, (T, T'), whether a query sees a key.

        Returns:
            (B, T, C).
        """
        padded = None  # rows and columns after padding to whole windows
        if context is not None:
            channels = x.shape[-1]
            split = (channels, 2 * channels)
            q_weight, kv_weight = self.qkv.weight.split(split)
            q_bias, kv_bias = (
                (None, None)
                if self.qkv.bias is None
                else self.qkv.bias.split(split)
            )
            q = F.linear(x, q_weight, q_bias)
            kv = F.linear(context, kv_weight, kv_bias)
            plain = is_plain(q, kv.shape[1], is_causal)
            (q,) = split_heads(q, 1, self.num_heads, plain)
            k, v = split_heads(kv, 2, self.num_heads, plain)
        else:
            qkv, padded = self.project(x, grid)
            plain = is_plain(qkv, qkv.shape[1], is_causal)
            q, k, v = split_heads(qkv, 3, self.num_heads, plain)
        scale = q.shape[-1] ** -0.5
        if grid is not None and self.use_rel_pos:
            inside = (self.window_size,) * 2 if padded else grid
            q, k = self.add_rel_pos(q, k, inside)
        x = attend(q, k, v, mask, is_causal, scale)
        x = x.transpose(1, 2).flatten(2)
        if padded:
            size = self.window_size
            x = window_unpartition(
                x.unflatten(1, (size, size)), size, padded, grid
            ).flatten(1, 2)  # -> (B, T, C)
        return self.proj(x)

    def project(
        self, x: Tensor, grid: tuple[int, int] | None
    ) -> tuple[Tensor, tuple[int, int] | None]:
        """Queries, keys and values of a stream, of windows if there are some.

        Args:
            x: (B, T, C).
            grid: As for :meth:`forward`.

        Returns:
            (B, T, 3C) and None, or (B * windows, window_size ** 2, 3C)
            and rows and columns after padding to whole windows.
        """
        if grid is None or not self.window_size:
            return self.qkv(x), None
        # ViTDet pads the tokens with zeros, which the projection turns into
        # its bias: the same, and the padding is not multiplied.
        qkv, padded = window_partition(
            F.linear(x, self.qkv.weight).unflatten(1, grid), self.window_size
        )
        qkv = qkv.flatten(1, 2)
        if self.qkv.bias is not None:
            qkv = qkv + self.qkv.bias.to(qkv.dtype)
        return qkv, padded

    def add_rel_pos(
        self, q: Tensor, k: Tensor, grid: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Let the product of queries and keys contain the position bias.

        The bias of query (i, j) and key (k, l) is q R_h(i - k) + q R_w(j - l).
        Behind each query come its products with all rows and all columns,
        behind each key ones at its row and its column, so that fused kernels,
        which take no bias or materialise it, compute the sum.

        Args:
            q, k: (B, heads, T, d). The last rows * columns tokens are patches;
                those before have no position.
            grid: Rows and columns.

        Returns:
            Both, (B, heads, T, d + rows + columns).
        """
        rows, columns = grid
        extra = q.shape[2] - rows * columns
        r_h, r_w = (
            relative_positions(table, size)  # (size, size, d)
            for table, size in (
                (self.rel_pos_h, rows),
                (self.rel_pos_w, columns),
            )
        )
        patches = q[:, :, extra:].unflatten(2, grid)
        bias = torch.cat(
            [
                torch.einsum('nhijd,ikd->nhijk', patches, r_h.to(q.dtype)),
                torch.einsum('nhijd,jld->nhijl', patches, r_w.to(q.dtype)),
            ],
            dim=-1,
        ).flatten(2, 3)  # (B, heads, rows * columns, rows + columns)
        eye = [torch.eye(n, dtype=k.dtype, device=k.device) for n in grid]
        place = torch.cat(
            [
                eye[0].repeat_interleave(columns, dim=0),
                eye[1].repeat(rows, 1),
            ],
            dim=1,
        )  # (rows * columns, rows + columns)
        bias, place = (F.pad(t, (0, 0, extra, 0)) for t in (bias, place))
        scale = q.shape[-1] ** -0.5  # the kernel will multiply by it
        q = torch.cat([q, bias / scale], dim=-1)
        k = torch.cat([k, place.expand(*k.shape[:2], -1, -1)], dim=-1)
        return q, k


def relative_positions(table: Tensor, size: int) -> Tensor:
    """Look up the vector of every pair of positions on an axis.

    Args:
        table: (2 * n - 1, d), of the distances 1 - n to n - 1.
        size: Positions; the table is interpolated if that is not n.

    Returns:
        (size, size, d), at (i, k) that of the distance i - k.
    """
    if len(table) != 2 * size - 1:
        table = resize_rel_pos(table, 2 * size - 1)
    position = torch.arange(size, device=table.device)
    return table[position[:, None] - position + size - 1]


def resize_rel_pos(table: Tensor, length: int) -> Tensor:
    """Interpolate a table of relative positions linearly, as ViTDet does.

    Args:
        table: (n, d).
        length: Distances wanted.

    Returns:
        (length, d).
    """
    return F.interpolate(table.T[None], size=length, mode='linear')[0].T


class TransformerBlock(BaseModule):
    """Pre-norm transformer block: attention, then MLP (Eq. 4 and 5).

    Its parameters have the names and shapes of mmpretrain's
    ``TransformerEncoderLayer``. As a decoder block it normalises query stream
    and context with one and the same LayerNorm.

    Args:
        embed_dims: Channels C.
        num_heads: Number of attention heads.
        feedforward_channels: Hidden channels of the MLP.
        drop_path_rate: Stochastic depth rate.
        qkv_bias: Whether queries, keys and values have a bias.
        with_cp: Whether the backward pass computes the block again rather than
            keep its activations.
        window_size: As for :class:`Attention`.
        rel_pos_grid: As for :class:`Attention`.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        feedforward_channels: int,
        drop_path_rate: float = 0.0,
        qkv_bias: bool = True,
        with_cp: bool = False,
        window_size: int = 0,
        rel_pos_grid: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.with_cp = with_cp
        self.ln1 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.attn = Attention(
            embed_dims, num_heads, qkv_bias, window_size, rel_pos_grid
        )
        self.drop_path = DropPath(drop_path_rate)
        self.ln2 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.ffn = FFN(
            embed_dims,
            feedforward_channels,
            act_cfg=dict(type='GELU'),
            dropout_layer=dict(type='DropPath', drop_prob=drop_path_rate),
        )

    def init_weights(self) -> None:
        super().init_weights()
        self.ffn.apply(xavier_linear)

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        is_causal: bool = False,
        grid: tuple[int, int] | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Update a stream.

        Args:
            x: (B, T, C).
            context: (B, T', C), the stream to attend to. Defaults to None,
                then ``x`` attends to itself.
            is_causal: Whether token t sees the tokens 1..t only.
            grid: As for :class:`Attention`.
            mask: As for :class:`Attention`.

        Returns:
            (B, T, C).
        """
        arguments = (x, context, is_causal, grid, mask)
        if self.with_cp and self.training:
            return torch.utils.checkpoint.checkpoint(
                self._forward, *arguments, use_reentrant=False
            )
        return self._forward(*arguments)

    def _forward(
        self,
        x: Tensor,
        context: Tensor | None,
        is_causal: bool,
        grid: tuple[int, int] | None,
        mask: Tensor | None,
    ) -> Tensor:
        if context is not None:
            context = self.ln1(context)
        x = x + self.drop_path(
            self.attn(self.ln1(x), context, is_causal, grid, mask)
        )
        return self.ffn(self.ln2(x), identity=x)


#: Graphs of the blocks' one function that PyTorch may keep; its 8 are few:
#: every size of a batch, every rate of stochastic depth and evaluation beside
#: training have their own.
MAX_GRAPHS = 512


def compile_blocks(model: nn.Module, **options: Any) -> None:
    """Compile every block of a model, in place, by itself.

    Without stochastic depth the blocks of a stream share one graph, so
    compiling takes as long for 4 as for 24; and in distributed training the
    gradients of a block can be averaged while those of the one before are
    computed.

    Args:
        model: Whose :class:`TransformerBlock` are compiled.
        **options: Of ``torch.compile``.

    Raises:
        ValueError: If ``target`` (MMEngine's) is among them.
    """
    check_arg(
        'target' not in options,
        'compile.target',
        options.get('target'),
        'left out: SAIM is compiled block by block',
    )
    limits = torch._dynamo.config
    for name in ('recompile_limit', 'cache_size_limit'):  # the latter: < 2.6
        if getattr(limits, name, MAX_GRAPHS) < MAX_GRAPHS:
            setattr(limits, name, MAX_GRAPHS)
    for block in model.modules():
        if isinstance(block, TransformerBlock):
            block.compile(**{'fullgraph': True, 'dynamic': False, **options})


def xavier_linear(module: nn.Module) -> None:
    """Initialise a linear layer: Xavier-uniform weight, zero bias."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
