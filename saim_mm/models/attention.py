"""Which form of attention is computed: a fused kernel, or three plain lines.

On CPUs PyTorch's fused kernel is slow in bfloat16 at short lengths. Forward
and backward, time of the fused one by that of the plain one (heads of 32 / 64
channels, causal; one core with AVX-512 and bfloat16, torch 2.14.1, medians of
9 turns each; ``tools/benchmarks/attention.py`` measures it again):

========  ===========  ===========
length    bfloat16     float32
========  ===========  ===========
64        3.2 / 3.6    0.92 / 0.84
196       1.7 / 2.2    0.82 / 0.85
400       1.2 / 2.0    0.83 / 0.86
576       1.1 / 1.7    0.78 / 0.88
1024      0.8 / 0.8    0.31 / 0.71
========  ===========  ===========

So plain is what runs on CPUs in bfloat16, up to :data:`PLAIN_UP_TO` tokens.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

#: Queries and keys, at most, for which the plain form is faster.
PLAIN_UP_TO = 576


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    is_causal: bool,
    scale: float,
) -> Tensor:
    """Scaled dot-product attention.

    Args:
        q, k, v: (B, heads, T or T', d).
        mask: bool, (..., T, T'), whether a query sees a key.
        is_causal: Whether query t sees the keys 1..t only.
        scale: Of the products.

    Returns:
        (B, heads, T, d).
    """
    if is_plain(q, k):
        return attend_plainly(q, k, v, mask, is_causal, scale)
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=is_causal, scale=scale
    )


def is_plain(q: Tensor, k: Tensor) -> bool:
    """Whether the plain form is the faster one."""
    return (
        q.device.type == 'cpu'
        and q.dtype == torch.bfloat16
        and q.shape[-2] <= PLAIN_UP_TO
        and k.shape[-2] <= PLAIN_UP_TO
    )


def attend_plainly(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    is_causal: bool,
    scale: float,
) -> Tensor:
    """As :func:`attend`, with the products written out."""
    products = (q * scale) @ k.transpose(-2, -1)  # (B, heads, T, T')
    if is_causal:
        unseen = q.new_full(products.shape[-2:], float('-inf')).triu(1)
        products = products + unseen
    if mask is not None:
        products = products.masked_fill(~mask, float('-inf'))
    return products.softmax(dim=-1) @ v
