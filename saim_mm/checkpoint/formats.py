"""Weights of the same networks under the names that other code gives them.

A format is a table from this package's names, which are those of mmpretrain's
``ImageClassifier`` and ``VisionTransformer``, to another's; three names in
place of one are queries, keys and values in matrices of their own.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor

from ..utils.check import check_arg
from ..utils.weights import explain, shorten

Name = tuple[str, ...]


_TIMM = {
    'backbone.cls_token': 'cls_token',
    'backbone.pos_embed': 'pos_embed',
    'backbone.patch_embed.projection': 'patch_embed.proj',
    'backbone.layers.{}.ln1': 'blocks.{}.norm1',
    'backbone.layers.{}.attn.qkv': 'blocks.{}.attn.qkv',
    'backbone.layers.{}.attn.proj': 'blocks.{}.attn.proj',
    'backbone.layers.{}.ln2': 'blocks.{}.norm2',
    'backbone.layers.{}.ffn.layers.0.0': 'blocks.{}.mlp.fc1',
    'backbone.layers.{}.ffn.layers.1': 'blocks.{}.mlp.fc2',
    'backbone.ln1': 'norm',
    'backbone.ln2': 'fc_norm',  # after average pooling
    'head.fc': 'head',
}


_AUTHORS = {
    **_TIMM,
    'backbone.layers.{}.attn.qkv': tuple(
        f'blocks.{{}}.attn.{x}' for x in 'qkv'
    ),
    'head.predictor.0': 'prediction_head.fc1',
    'head.predictor.2': 'prediction_head.fc2',
    'head.predictor': 'prediction_head',
}


_AUTHORS |= {
    ours.replace('backbone.', 'neck.'): (
        tuple(f'query_{x}' for x in theirs)
        if isinstance(theirs, tuple)
        else f'query_{theirs}'
    )
    for ours, theirs in _AUTHORS.items()
    if '{}' in ours
}


#: SemAIM's code is SAIM's, but for the encoder's blocks, which are timm's.
_SEMAIM = {ours: _TIMM.get(ours, theirs) for ours, theirs in _AUTHORS.items()}


_HUGGINGFACE = {
    'backbone.cls_token': 'vit.embeddings.cls_token',
    'backbone.pos_embed': 'vit.embeddings.position_embeddings',
    'backbone.patch_embed.projection': (
        'vit.embeddings.patch_embeddings.projection'
    ),
    'backbone.ln1': 'vit.layernorm',
    'head.fc': 'classifier',
    'backbone.layers.{}.attn.qkv': tuple(
        f'vit.encoder.layer.{{}}.attention.attention.{x}'
        for x in ('query', 'key', 'value')
    ),
    **{
        f'backbone.layers.{{}}.{ours}': f'vit.encoder.layer.{{}}.{theirs}'
        for ours, theirs in (
            ('ln1', 'layernorm_before'),
            ('attn.proj', 'attention.output.dense'),
            ('ln2', 'layernorm_after'),
            ('ffn.layers.0.0', 'intermediate.dense'),
            ('ffn.layers.1', 'output.dense'),
        )
    },
}


#: Name of a format -> {our name: its name}. ``authors`` is the released code
#: of the paper, ``semaim`` that of SemAIM, ``timm`` its VisionTransformer (and
#: MAE's), ``huggingface`` the ViTForImageClassification of transformers (and
#: ViTModel, and ViTMAEForPreTraining).
FORMATS: dict[str, dict[str, Any]] = {
    'authors': _AUTHORS,
    'semaim': _SEMAIM,
    'timm': _TIMM,
    'huggingface': _HUGGINGFACE,
}


#: What the encoder is not, by the beginnings of its names: decoders of MAE,
#: and what transformers puts behind the last block for other uses.
DECODERS = {
    'timm': ('decoder_', 'mask_token'),
    'huggingface': (
        *('decoder.', 'vit.embeddings.mask_token'),
        *('pooler.', 'vit.pooler.'),
    ),
}


#: Not learned, and made anew by each side.
_FIXED = ('gaussian_blur.weight', 'target_generator.kernel')


_PRETRAINING = (
    *('neck.', 'head.predictor', 'head.blocks.', 'teacher.'),
    'backbone.mask_token',  # SimMIM's
)


def _split(name: str) -> tuple[str, str, str]:
    """'layers.3.ln1.weight' -> ('layers.{}.ln1', '3', '.weight')."""
    stem, kind = name, ''
    for end in ('.weight', '.bias'):
        if name.endswith(end):
            stem, kind = name.removesuffix(end), end
    found = re.fullmatch(
        r'(.*?(?:blocks|layers|encoder\.layer)\.)(\d+)(\..*)', stem
    )
    if found is None:
        return stem, '', kind
    before, index, after = found.groups()
    return f'{before}{{}}{after}', index, kind


def _unknown(names: list[str], format: str) -> ValueError:
    return ValueError(
        f'not weights of the format {format!r}: {shorten(names, 5)}'
        f'{explain(names)}'
    )


def to_format(state_dict: dict[str, Tensor], format: str) -> dict[str, Tensor]:
    """Rename weights of this package (or mmpretrain) for other code.

    Args:
        state_dict: Of :class:`~saim_mm.SAIM`, of an ``ImageClassifier`` with a
            :class:`~saim_mm.SAIMViT`, or of a backbone alone.
        format: One of :data:`FORMATS`.

    Returns:
        What the format has names for; decoder and
        prediction head stay behind unless it is the authors' or SemAIM's, and
        the moving average always.

    Raises:
        ValueError: If it holds weights that are neither, or a classifier's
            neck.
    """
    table = FORMATS[format]
    converted, unknown = {}, []
    if not any(name.startswith('backbone.') for name in state_dict):
        state_dict = {f'backbone.{n}': v for n, v in state_dict.items()}
    # The two heads of mmpretrain that are one linear layer.
    state_dict = {
        name.replace('head.layers.head.', 'head.fc.'): value
        for name, value in state_dict.items()
    }
    necks = [name for name in state_dict if name.startswith('neck.')]
    check_arg(
        not necks or 'head.fc.weight' not in state_dict,
        'neck',
        necks,
        f'left out: {format!r} has no place for what is between backbone and '
        'head, and without it the head is wrong. Convert the backbone alone: '
        'the checkpoint of pre-training that the probe started from, or the '
        "weights whose names begin with 'backbone.'",
    )
    for name, value in state_dict.items():
        stem, index, kind = _split(name)
        theirs = table.get(stem)
        if isinstance(theirs, tuple):
            for part, chunk in zip(theirs, value.chunk(3)):
                converted[part.format(index) + kind] = chunk.clone()
        elif theirs is not None:
            converted[theirs.format(index) + kind] = value
        elif not name.startswith((*_PRETRAINING, *_FIXED)) or (
            format in ('authors', 'semaim')
            and not name.startswith((*_FIXED, 'teacher.'))
        ):
            unknown.append(name)
    if unknown:
        raise _unknown(unknown, 'mmpretrain')
    return converted


def from_format(
    state_dict: dict[str, Tensor], format: str
) -> dict[str, Tensor]:
    """Rename the weights of other code; the inverse of :func:`to_format`.

    Args:
        state_dict: The weights, or anything else by parameter, such as
            gradients.
        format: One of :data:`FORMATS`.

    Returns:
        dict[str, Tensor]: For :class:`~saim_mm.SAIM` if they come from
        pre-training (with ``share_weights`` if the decoder's blocks equal the
        encoder's), else for mmpretrain's ``ImageClassifier`` with a
        ``LinearClsHead``. Without :data:`DECODERS`, which the log names.

    Raises:
        ValueError: If there are weights that the format does not have.
    """
    table = {}
    for ours, theirs in FORMATS[format].items():
        parts = theirs if isinstance(theirs, tuple) else (theirs,)
        for number, part in enumerate(parts):
            table[part] = (ours, number)
    if format == 'huggingface':
        state_dict = _with_vit(state_dict)
    converted: dict[str, Any] = {}
    unknown = []
    decoders = [
        name
        for name in state_dict
        if name.startswith(DECODERS.get(format, ()))
    ]
    if decoders:
        print_log(
            f'Left out, as it is not of the encoder: {shorten(decoders)}',
            logger='current',
        )
    for name, value in state_dict.items():
        stem, index, kind = _split(name)
        if name in decoders:
            continue
        if stem not in table:
            if name not in _FIXED:
                unknown.append(name)
            continue
        ours, number = table[stem]
        converted.setdefault(ours.format(index) + kind, {})[number] = value
    if unknown:
        raise _unknown(unknown, format)
    weights = {
        name: torch.cat([parts[k] for k in sorted(parts)])
        if len(parts) > 1
        else parts[0]
        for name, parts in converted.items()
    }
    # Blocks that encoder and decoder share stand twice in the authors' file.
    copies = {n for n in weights if n.startswith('neck.')}
    originals = {
        n: weights.get(n.replace('neck.', 'backbone.')) for n in copies
    }
    if all(
        same is not None and torch.equal(weights[n], same)
        for n, same in originals.items()
    ):
        weights = {n: v for n, v in weights.items() if n not in copies}
    return weights


def _with_vit(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names of a ViTModel as those of one within another model."""
    return {
        f'vit.{name}'
        if name.startswith(('embeddings.', 'encoder.', 'layernorm.'))
        else name: value
        for name, value in state_dict.items()
    }


def detect_format(state_dict: dict[str, Tensor]) -> str:
    """Which format weights are in.

    Returns:
        str: One of :data:`FORMATS`, or ``'mmpretrain'``.

    Raises:
        ValueError: If it is none of them.
    """
    names = set(state_dict)
    if any(n.startswith(('backbone.layers.', 'layers.')) for n in names):
        return 'mmpretrain'
    for mark, format in (
        ('blocks.0.attn.q.weight', 'authors'),
        ('query_blocks.0.attn.q.weight', 'semaim'),
        ('blocks.0.attn.qkv.weight', 'timm'),
        ('vit.encoder.layer.0.layernorm_before.weight', 'huggingface'),
        ('encoder.layer.0.layernorm_before.weight', 'huggingface'),
    ):
        if mark in names:
            return format
    raise ValueError(
        f'weights with names such as {sorted(names)[:3]}: must be of one of '
        f'the formats {["mmpretrain", *FORMATS]}'
    )
