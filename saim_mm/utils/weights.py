"""What the names of weights say."""

from __future__ import annotations

import re

#: What is in the names of weights that a plain ViT has no place for -> why.
NO_PLACE = {
    r'gamma|\bls[12]\b|layer_?scale': (
        'LayerScale, as of DINOv2 and DeiT III, which SAIMViT does not have'
    ),
    r'pre_norm|norm_pre|pre_?layernorm|\bln_pre': (
        'a norm before the first block, as of CLIP, which SAIMViT does not '
        'have'
    ),
    r'\b[qk]_norm|\bnorm_[qk]\b': (
        'norms of queries and keys, which SAIMViT does not have'
    ),
    r'\brel_pos_': 'backbone.use_rel_pos=True takes them',
    r'qkv\.bias': 'backbone.qkv_bias=True takes them',
    r'^cls_token$': 'backbone.with_cls_token=True takes it',
}


def explain(names: list[str], reasons: dict[str, str] = NO_PLACE) -> str:
    """Why weights do not fit, as far as their names say.

    Args:
        names: Of the weights.
        reasons: Regular expression -> reason. Defaults to :data:`NO_PLACE`.

    Returns:
        ' (reason; reason)', or ''.
    """
    found = [
        reason
        for pattern, reason in reasons.items()
        if any(re.search(pattern, name) for name in names)
    ]
    return f' ({"; ".join(found)})' if found else ''


def shorten(names: list[str], length: int = 3) -> str:
    """The first names of a list, and how many others there are.

    Args:
        length: How many are given.

    Returns:
        The text.
    """
    others = len(names) - length
    return f'{names[:length]}' + (f' and {others} others' * (others > 0))
