"""Which form of attention is computed: a fused kernel, or three plain lines.

On CPUs PyTorch's fused kernel is slow in bfloat16 at short lengths. How many
times as long as the plain form it takes, forward and backward, with heads of
32 / 64 channels (one core with AVX-512 and bfloat16, torch 2.14.1, medians of
turns side by side; ``tools/benchmarks/attention.py`` measures it again):

========  ===========  =============  ===========  =============
length    bfloat16     bfloat16       float32      float32
          causal       all keys       causal       all keys
========  ===========  =============  ===========  =============
50        5.4 / 3.9    6.5 / 3.8      0.71 / 0.83  0.97 / 0.77
65        4.5 / 4.6    5.3 / 4.7      0.63 / 0.71  0.80 / 0.70
197       2.5 / 2.3    2.7 / 2.2      0.72 / 0.71  0.76 / 0.86
401       1.8 / 2.0    2.0 / 1.9      0.72 / 0.79  0.70 / 0.74
577       1.6 / 1.6    2.1 / 2.3      0.68 / 0.79  0.81 / 0.79
1025      1.3 / 1.2    1.8 / 1.8      0.52 / 0.61  0.82 / 0.77
========  ===========  =============  ===========  =============

So plain is what runs on CPUs in bfloat16, up to :data:`PLAIN_UP_TO` tokens, or
:data:`PLAIN_UP_TO_ALL` if all see all (above, it needs much memory too).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmpretrain.models.utils import MultiheadAttention
from torch import Tensor, nn

#: Queries and keys, at most, for which the plain form is faster: causal.
PLAIN_UP_TO = 576
#: The same without a causal mask.
PLAIN_UP_TO_ALL = 1100


def is_plain(query: Tensor, keys: int, is_causal: bool) -> bool:
    """Whether the plain form is the faster one.

    Args:
        query: (..., T, d).
        keys: How many.
        is_causal: As for :func:`attend`.
    """
    return (
        query.device.type == 'cpu'
        and query.dtype == torch.bfloat16
        and max(query.shape[-2], keys)
        <= (PLAIN_UP_TO if is_causal else PLAIN_UP_TO_ALL)
    )


def split_heads(
    x: Tensor, parts: int, num_heads: int, plain: bool
) -> tuple[Tensor, ...]:
    """Take apart the queries, keys or values that one product gave.

    Args:
        x: (B, T, parts * C).
        parts: How many there are, one after the other.
        num_heads: Number of heads.
        plain: Whether they go to the plain form: its products read them in
            one piece, so they are copied, all at once.

    Returns:
        The parts, (B, heads, T, C / heads) each.
    """
    x = x.unflatten(-1, (parts, num_heads, -1))
    if plain:
        return x.permute(2, 0, 3, 1, 4).contiguous().unbind(0)
    return tuple(part.transpose(1, 2) for part in x.unbind(2))


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
        q, k: (B, heads, T or T', d).
        v: (B, heads, T', d'), d' at most d.
        mask: (..., T, T'), bool, whether a query sees a key, or what is added
            to their product.
        is_causal: Whether query t sees the keys 1..t only.
        scale: Of the products.

    Returns:
        (B, heads, T, d').
    """
    if is_plain(q, k.shape[-2], is_causal):
        return attend_plainly(q, k, v, mask, is_causal, scale)
    channels, longer = v.shape[-1], q.shape[-1] - v.shape[-1]
    if longer:  # the fused kernels want values as long as keys
        v = F.pad(v, (0, longer))
    x = F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=is_causal, scale=scale
    )
    return x[..., :channels] if longer else x


def attend_plainly(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    is_causal: bool,
    scale: float,
) -> Tensor:
    """As :func:`attend`, with the products written out."""
    shape = (*q.shape[:3], k.shape[2])
    if is_causal:
        mask = q.new_ones(shape[2:], dtype=torch.bool).tril()
    if mask is None:
        bias = q.new_zeros(1, 1, 1)
    elif mask.dtype == torch.bool:
        bias = q.new_zeros(mask.shape).masked_fill(~mask, float('-inf'))
    else:
        bias = mask.to(q.dtype)
    if bias.ndim > 2 and mask is not None:
        bias = bias.expand(shape).flatten(0, 1)
    # One product with its scale and its mask: nothing passes over T x T'
    # numbers but this, the softmax and the product with the values.
    q, k, v = (x.flatten(0, 1) for x in (q, k, v))
    products = torch.baddbmm(
        bias, q, k.transpose(1, 2), beta=mask is not None, alpha=scale
    )
    return torch.bmm(products.softmax(dim=-1), v).unflatten(0, shape[:2])


def attend_plainly_in_mmpretrain(model: nn.Module) -> None:
    """Have mmpretrain's attention take the faster form too.

    What drops attention, or has a scale of its own, stays as it is.

    Args:
        model: Whose ``MultiheadAttention`` is changed, wherever it stands.
    """
    for module in model.modules():
        if isinstance(module, MultiheadAttention) and (
            module.scaled_dot_product_attention
            is F.scaled_dot_product_attention
        ):
            module.scaled_dot_product_attention = attend_as_pytorch


def attend_as_pytorch(
    q: Tensor, k: Tensor, v: Tensor, dropout_p: float = 0.0
) -> Tensor:
    """:func:`attend`, called as PyTorch's; with dropout that itself."""
    if dropout_p:
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout_p)
    return attend(q, k, v, None, False, q.shape[-1] ** -0.5)


def attention_weights(
    attention: nn.Module, x: Tensor, queries: slice = slice(None)
) -> Tensor:
    """What each token of a stream takes of each, as no fused kernel says it.

    Args:
        attention: Of the whole stream: no windows, no relative positions.
        x: (B, T, C), what goes into it.
        queries: Of which tokens.

    Returns:
        (B, heads, Q, T), the rows sum to 1.
    """
    q, k, _ = split_heads(attention.qkv(x), 3, attention.num_heads, False)
    scores = q[:, :, queries] @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    return scores.softmax(dim=-1)
