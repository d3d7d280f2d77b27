"""Checkpoints of others, under this package's names."""

import re

import torch
from torch import Tensor

# Authors' name -> ours, in SAIM's state dict.
_RENAME = [
    (r'^(cls_token|pos_embed)$', r'backbone.\1'),
    (r'^patch_embed\.proj\.', 'backbone.patch_embed.projection.'),
    (r'^blocks\.', 'backbone.layers.'),
    (r'^query_blocks\.', 'neck.layers.'),
    (r'^norm\.', 'backbone.ln1.'),
    (r'^prediction_head\.fc1\.', 'head.predictor.0.'),
    (r'^prediction_head\.fc2\.', 'head.predictor.2.'),
    (r'^prediction_head\.', 'head.predictor.'),
    (r'\.norm(\d)\.', r'.ln\1.'),
    (r'\.mlp\.fc1\.', '.ffn.layers.0.0.'),
    (r'\.mlp\.fc2\.', '.ffn.layers.1.'),
]


def from_authors(
    state_dict: dict[str, Tensor], share_weights: bool = False
) -> dict[str, Tensor]:
    """Rename a pre-training checkpoint of the authors' released code.

    Args:
        state_dict (dict[str, Tensor]): The authors' parameters, or anything
            else by parameter, such as gradients.
        share_weights (bool): Whether the decoder's blocks are the encoder's;
            then the copies under the decoder's names are dropped. Defaults to
            False.

    Returns:
        dict[str, Tensor]: For :class:`~saim_mm.SAIM`. The blur kernel, which
        is not learned, is left out.
    """
    renamed = {}
    for name, value in state_dict.items():
        if name == 'gaussian_blur.weight' or (
            share_weights and name.startswith('query_blocks.')
        ):
            continue
        for pattern, replacement in _RENAME:
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    # Three matrices become one: q, k, v -> qkv.
    for name in [n for n in renamed if '.attn.q.' in n]:
        parts = [renamed.pop(name.replace('.q.', f'.{x}.')) for x in 'qkv']
        renamed[name.replace('.q.', '.qkv.')] = torch.cat(parts)
    return renamed
