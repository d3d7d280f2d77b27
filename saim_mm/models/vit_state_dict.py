"""What a SAIMViT does to the weights that it is given.

They go in completely or not at all: what a checkpoint lacks, has too much or
of another size is an error that names the option which would take it.
"""

from __future__ import annotations

import logging
import math
import re
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import PretrainedInit
from mmengine.model.weight_init import initialize
from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor, nn

from ..utils.weights import explain, shorten
from .layers import resize_rel_pos

#: Of no use after pre-training or distillation.
TOKENS = {'dist_token', 'mask_token'}

PATCHES = 'patch_embed.projection.weight'

#: What is in the names of missing weights -> what to do.
MISSING = {
    r'^ln1\.': (
        'the final norm: backbone.final_norm=False if the network has none '
        "(and backbone.out_type='avg_featmap' if it has one after the average "
        'of the patches)'
    ),
    r'^ln2\.': (
        "the norm after the average: backbone.out_type='cls_token', "
        "'featmap' or 'raw' if the network has none"
    ),
    r'qkv\.bias': 'backbone.qkv_bias=False if the network has none',
    r'^cls_token$': 'backbone.with_cls_token=False if the network has none',
}


def register_state_dict_hooks(vit: nn.Module) -> None:
    """Let a SAIMViT check and fit every ``state_dict`` that it is given."""
    for hook in (check_state_dict, fit_pos_embed, fit_rel_pos):
        vit._register_load_state_dict_pre_hook(hook, with_module=True)


def check_state_dict(
    vit: nn.Module, state_dict: dict, prefix: str, *args: Any
) -> None:
    """Refuse weights that are not this backbone's (MMEngine only warns).

    Relative positions may be missing: they start without effect. Tokens of
    pre-training, the class token of a backbone without one, and norms behind
    the block that is the output may be left over.

    Raises:
        ValueError: If others are missing (more than ``min_match_ratio``
            allows) or left over, or one has another shape.
    """
    own = vit.state_dict()
    theirs = {
        name[len(prefix) :]: value
        for name, value in state_dict.items()
        if name.startswith(prefix)
    }
    found = (re.match(r'layers\.(\d+)\.', name) for name in theirs)
    depth = {int(match[1]) for match in found if match}
    if depth and max(depth) + 1 != vit.num_layers:
        raise ValueError(
            f'the checkpoint has {max(depth) + 1} blocks, '
            f'backbone.arch={vit.arch_settings} has {vit.num_layers}: '
            'load a checkpoint of the same arch, or change arch'
        )
    needed = [name for name in own if '.rel_pos_' not in name]
    missing = [name for name in needed if name not in theirs]
    share = 1 - len(missing) / len(needed)
    extra = [
        name
        for name in theirs
        if name not in own
        and name not in TOKENS
        and not (name == 'cls_token' and not vit.with_cls_token)
        and not name.startswith(('ln1.', 'ln2.'))
    ]
    message = []
    if missing:
        message.append(
            f"{math.floor(100 * share)} % of the backbone's weights are in "
            f'the checkpoint, which lacks {shorten(missing)}'
            f'{explain(missing, MISSING)}'
        )
    if extra:
        message.append(
            'the checkpoint has weights that the backbone has no place for: '
            f'{shorten(extra)}{explain(extra)}'
        )
    if share < vit.min_match_ratio or (extra and vit.min_match_ratio > 0):
        raise ValueError(
            f'{"; and ".join(message)}: it is of another model or under other '
            f'names (for example {list(state_dict)[:2]}). '
            'tools/converters/convert.py renames those it knows; '
            'backbone.min_match_ratio=0 loads those of the same names'
        )
    if message:
        print_log(
            '; and '.join(message), logger='current', level=logging.WARNING
        )
    for name, value in own.items():
        if name not in theirs or has_shape(theirs[name], value, name):
            continue
        if name == PATCHES and theirs[name].shape[1] != value.shape[1]:
            raise ValueError(
                f'backbone.in_channels={value.shape[1]}: must be '
                f'{theirs[name].shape[1]}, the channels of the images that '
                'the checkpoint was trained on; or start without it'
            )
        raise ValueError(
            f'the checkpoint does not fit the backbone: {prefix}{name} '
            f'has shape {tuple(theirs[name].shape)} in the checkpoint and '
            f'{tuple(value.shape)} here (arch={vit.arch_settings}, '
            f'patch_size={vit.patch_size}): load a checkpoint of the '
            'same arch and patch_size, or change these'
        )


def has_shape(theirs: Tensor, own: Tensor, name: str) -> bool:
    """Whether a weight has, or is resized to, the shape of a backbone's."""
    if '.rel_pos_' in name:
        return theirs.ndim == 2 and theirs.shape[1] == own.shape[1]
    if name == 'pos_embed':
        return theirs.ndim == 3 and theirs.shape[::2] == own.shape[::2]
    return theirs.shape == own.shape


def fit_pos_embed(
    vit: nn.Module, state_dict: dict, prefix: str, *args: Any
) -> None:
    """Fit a checkpoint's position embedding to the model's.

    It is resized by ``interpolate_mode``, from a square grid of patches,
    and loses or gains that of the class token (zero). That of DeiT's
    distillation token is dropped. (A checkpoint does not say of which grid it
    is: as many positions as the model's are taken for its, and others for
    those of a square.)

    Raises:
        ValueError: If it is not of a square grid, and of another size.
    """
    name = f'{prefix}pos_embed'
    if name not in state_dict:
        return
    theirs = state_dict[name]
    tokens = [f'{prefix}{x}_token' in state_dict for x in ('cls', 'dist')]
    if theirs.shape == vit.pos_embed.shape and tokens == [
        vit.with_cls_token,
        False,
    ]:
        return  # as it is, and in the parts that fsdp has cut
    cls_position, _, patches = theirs.split(
        [*map(int, tokens), theirs.shape[1] - sum(tokens)], dim=1
    )
    if not vit.with_cls_token:
        cls_position = theirs[:, :0]
    elif not tokens[0]:
        cls_position = torch.zeros_like(theirs[:, :1])
    rows, columns = vit.patch_resolution
    number = patches.shape[1]
    if number != rows * columns:
        side = math.isqrt(number)
        if side**2 != number:
            raise ValueError(
                f'the checkpoint has positions of {number} patches, and '
                f'backbone.img_size={vit.img_size} has {rows} x '
                f'{columns}: only those of a square image can be resized'
            )
        patches = resize_pos_embed(
            patches,
            (side, side),
            (rows, columns),
            vit.interpolate_mode,
            num_extra_tokens=0,
        )
    state_dict[name] = torch.cat([cls_position, patches], dim=1)


def fit_rel_pos(
    vit: nn.Module, state_dict: dict, prefix: str, *args: Any
) -> None:
    """Fit a checkpoint's relative positions to the model's grid."""
    for name, own in vit.named_parameters():
        theirs = state_dict.get(prefix + name)
        if '.rel_pos_' in name and theirs is not None:
            state_dict[prefix + name] = resize_rel_pos(theirs, len(own))


def apply_init_cfg(vit: nn.Module, configs: list[dict]) -> None:
    """Initialise as a user's ``init_cfg`` says, checkpoints last.

    Those of ``type='Pretrained'`` are loaded by the initialiser that is
    registered as ``'PretrainedViT'``, which knows the formats of others.

    Args:
        configs: As for MMEngine.
    """
    for last in (False, True):
        for config in configs:
            if is_pretrained(config) != last:
                continue
            if last:
                config = {**config, 'type': 'PretrainedViT'}
            initialize(vit, config)


def configs_of(init_cfg: dict | list[dict] | None) -> list[dict]:
    """An ``init_cfg``, which may be one or several, as a list."""
    return [init_cfg] if isinstance(init_cfg, dict) else list(init_cfg or [])


def is_pretrained(config: dict) -> bool:
    """Whether an ``init_cfg`` loads a checkpoint."""
    return config['type'] in ('Pretrained', PretrainedInit)
