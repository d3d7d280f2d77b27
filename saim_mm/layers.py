"""The transformer block that encoder, decoder and prediction head share."""

from typing import Optional

import torch.nn.functional as F
import torch.utils.checkpoint
from mmcv.cnn.bricks import DropPath
from mmcv.cnn.bricks.transformer import FFN
from mmengine.model import BaseModule
from torch import Tensor, nn

from .errors import check


class Attention(BaseModule):
    """Multi-head attention of a stream to itself or to another stream.

    Its parameters have the names and shapes of mmpretrain's
    ``MultiheadAttention``.

    Args:
        embed_dims (int): Channels C of both streams.
        num_heads (int): Number of heads; divides ``embed_dims``.
        qkv_bias (bool): Whether queries, keys and values have a bias.
            Defaults to True.
    """

    def __init__(
        self, embed_dims: int, num_heads: int, qkv_bias: bool = True
    ) -> None:
        super().__init__()
        check(
            embed_dims % num_heads == 0,
            'num_heads',
            num_heads,
            f'a divisor of embed_dims={embed_dims}',
        )
        self.num_heads = num_heads
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims, bias=qkv_bias)
        self.proj = nn.Linear(embed_dims, embed_dims)

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
        context: Optional[Tensor] = None,
        is_causal: bool = False,
    ) -> Tensor:
        """Attend from ``x`` to ``context``.

        Args:
            x (Tensor): (B, T, C), gives the queries.
            context (Tensor, optional): (B, T, C), gives keys and values.
                Defaults to None, then ``x`` does.
            is_causal (bool): Whether query t sees the keys 1..t only.
                Defaults to False.

        Returns:
            Tensor: (B, T, C).
        """
        if context is None:
            q, k, v = self.qkv(x).chunk(3, dim=-1)  # (B, T, C) each
        else:
            channels = x.shape[-1]
            split = (channels, 2 * channels)
            q_weight, kv_weight = self.qkv.weight.split(split)
            q_bias, kv_bias = (
                (None, None)
                if self.qkv.bias is None
                else self.qkv.bias.split(split)
            )
            q = F.linear(x, q_weight, q_bias)
            k, v = F.linear(context, kv_weight, kv_bias).chunk(2, dim=-1)
        # (B, T, C) -> (B, heads, T, C / heads)
        q, k, v = (
            t.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for t in (q, k, v)
        )
        x = F.scaled_dot_product_attention(q, k, v, is_causal=is_causal)
        return self.proj(x.transpose(1, 2).flatten(2))


class TransformerBlock(BaseModule):
    """Pre-norm transformer block: attention, then MLP (Eq. 4 and 5).

    Its parameters have the names and shapes of mmpretrain's
    ``TransformerEncoderLayer``. As a decoder block it normalises query stream
    and context with one and the same LayerNorm.

    Args:
        embed_dims (int): Channels C.
        num_heads (int): Number of attention heads.
        feedforward_channels (int): Hidden channels of the MLP.
        drop_path_rate (float): Stochastic depth rate. Defaults to 0.
        qkv_bias (bool): Whether queries, keys and values have a bias.
            Defaults to True.
        with_cp (bool): Whether the backward pass computes the block again
            rather than keep its activations. Defaults to False.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        feedforward_channels: int,
        drop_path_rate: float = 0.0,
        qkv_bias: bool = True,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        self.with_cp = with_cp
        self.ln1 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.attn = Attention(embed_dims, num_heads, qkv_bias)
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
        context: Optional[Tensor] = None,
        is_causal: bool = False,
    ) -> Tensor:
        """Update a stream.

        Args:
            x (Tensor): (B, T, C).
            context (Tensor, optional): (B, T, C), the stream to attend to.
                Defaults to None, then ``x`` attends to itself.
            is_causal (bool): Whether token t sees the tokens 1..t only.
                Defaults to False.

        Returns:
            Tensor: (B, T, C).
        """
        if self.with_cp and self.training:
            return torch.utils.checkpoint.checkpoint(
                self._forward, x, context, is_causal, use_reentrant=False
            )
        return self._forward(x, context, is_causal)

    def _forward(
        self, x: Tensor, context: Optional[Tensor], is_causal: bool
    ) -> Tensor:
        if context is not None:
            context = self.ln1(context)
        x = x + self.drop_path(self.attn(self.ln1(x), context, is_causal))
        return self.ffn(self.ln2(x), identity=x)


def xavier_linear(module: nn.Module) -> None:
    """Initialise a linear layer: Xavier-uniform weight, zero bias."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
