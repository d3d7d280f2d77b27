"""Which values a field may have: by its annotation, default and name."""

from __future__ import annotations

import collections.abc
import inspect
import logging
import math
import numbers
import os
import re
import types
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin

import numpy as np
import torch
from mmpretrain.models.backbones import VisionTransformer

from ...utils.check import ConfigError
from .ranges import RANGES
from .schema import MISSING, is_misspelled, nearest

#: Fields whose annotation is too narrow.
HINTS = {
    'begin': float,
    'prob': float | list | tuple,
    'end': float,
    'T_max': float | None,
    'attn_mask': bool | None,
    **dict.fromkeys(('max_epochs', 'max_iters'), float),
    'pipeline': list[dict],
    'transforms': list | tuple | dict,
    'CAEPretrainViT.bias': bool | str,
    'CentripetalNet.neck': dict | None,
    'CornerNet.neck': dict | None,
    'RPN.neck': dict | None,
    'reduce_zero_label': bool | None,
    'vis_backends': list[dict] | None,
    'head': dict | list,
    'init_cfg': dict | list | None,
    'ConstantInit.val': float,
    'param_scheduler': list[dict] | dict | None,
    'imports': list | str,
    'layer': str | list | tuple,
    'PretrainedInit.checkpoint': str,
    'PretrainedInit.prefix': str | None,
    'SegDataPreProcessor.pad_val': float,
    'ignore_index': int | list | tuple | None,
    'l2_norm_scale': float | None,
    'reid': dict | None,
    'arch': str | dict | list | tuple,
    'loss_scale': str | float | dict | None,
    'out_indices': int | list | tuple,
    'input_size': int | list | tuple,
    'pad_val': float | list | tuple | dict,
    'ratios': list | tuple | None,
    'keys': str | list | tuple | None,
    'patch_pad': str | int,
}

#: Name of a field -> the attribute of its class that lists what it may be.
LISTED_BY = {
    'arch': 'arch_zoo',
    'out_type': 'OUT_TYPES',
    'predictor': 'predictors',
    'policy': 'policies',
    'interpolation': 'interpolations',
}

#: Name of a field (or of class and field) -> the words it may have.
CHOICES: dict[str, tuple[str, ...]] = {
    'CAEPretrainViT.bias': ('qv_bias',),
    'backend': ('cv2', 'pillow'),
    'backend_args.backend': (),
    'compile.backend': (),
    'file_client_args.backend': (),
    'MoCoV3ViT.arch': (
        *VisionTransformer.arch_zoo,
        *('mocov3-s', 'mocov3-small'),  # added when one is built
    ),
    'log_level': tuple(logging._nameToLevel),
    'magnitude_std': ('inf',),
    'launcher': ('none', 'pytorch', 'slurm', 'mpi'),
    'mp_start_method': ('fork', 'spawn', 'forkserver'),
    'collect_device': ('cpu', 'gpu'),
    'reduction': ('none', 'mean', 'sum'),
    'distribution': ('uniform', 'normal'),
    'criterion': ('L1', 'L2'),
    'edge': ('short', 'long', 'width', 'height'),
    'direction': ('horizontal', 'vertical', 'diagonal'),
    'interpolation': (
        'nearest bilinear bicubic area lanczos box hamming random'.split()
    ),
    'interpolate_mode': ('nearest', 'bilinear', 'bicubic', 'area'),
    'imdecode_backend': ('cv2', 'pillow', 'turbojpeg', 'tifffile'),
    'RandomCrop.crop_type': (
        'absolute_range absolute relative relative_range'.split()
    ),
    'padding_mode': ('constant', 'edge', 'reflect', 'symmetric'),
    'input_transform': ('resize_concat', 'multiple_select'),
    'CocoMetric.metric': ('bbox', 'segm', 'proposal', 'proposal_fast'),
    'iou_metrics': ('mIoU', 'mDice', 'mFscore'),
    'LabelSmoothLoss.mode': ('original', 'classy_vision', 'multi_label'),
    'RandomErasing.mode': ('const', 'rand'),
    'SAIM.prefix': ('random',),
    'RandAugment.policies': ('timm_increasing', 'simple_increasing'),
    'ImageNet.split': ('train', 'val', 'test', ''),
    'dist_cfg.backend': ('nccl gloo mpi ucc hccl cncl mccl smddp'.split()),
    'test_cfg.mode': ('slide', 'whole', 'slide_flip'),
}

PLAIN = (str, bool, int, float, list, tuple, dict, type(None))
#: What every number of a config is in.
ANY = '(-1e9, 1e9)'
#: Classes whose objects a config names.
NAMED = (os.PathLike, type, torch.device, torch.dtype)


def refuse(field: str, value: Any, problem: str) -> None:
    """Raise the ConfigError of a field."""
    shown = repr(value)
    shown = shown if len(shown) < 300 else f'{shown[:280]} ...'
    raise ConfigError(f'{field}={shown}: {problem}')


def is_number(value: Any) -> bool:
    """Whether a value is a number; True and False are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def fits(value: Any, hint: Any) -> bool:
    """Whether a value of a config is what an annotation says.

    Lists and tuples are one to a config, as are an object and the dict it is
    built from. Where toolboxes write int they mean a number, and where they
    write a list of numbers often one, too.

    Args:
        hint: The annotation, or ``MISSING``.
    """
    if hint in (MISSING, Any):
        return True
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        # A bare list beside others is one of these others.
        bare = [
            arg
            for arg in args
            if (get_origin(arg) or arg) in (list, tuple) and not get_args(arg)
        ]
        items = [a for a in args if a not in bare and a is not type(None)]
        if bare and items and isinstance(value, (list, tuple)):
            return all(any(fits(v, a) for a in items) for v in leaves(value))
        return any(fits(value, arg) for arg in args)
    if origin is Literal:
        return value in args
    if hint in (None, type(None)):
        return value is None
    kind = origin or hint
    if not isinstance(kind, type) or kind is collections.abc.Callable:
        return True
    if kind is str or issubclass(kind, NAMED):
        return isinstance(value, (str, kind))
    if kind is bool:
        return all(isinstance(v, bool) for v in leaves(value))
    if kind in (int, float, numbers.Number):
        return is_number(value)
    if issubclass(kind, Mapping):
        return isinstance(value, Mapping) or (
            isinstance(value, (list, tuple))
            and all(isinstance(v, Mapping) for v in leaves(value))
        )
    if issubclass(kind, collections.abc.Iterable) and kind.__module__ in (
        'builtins',
        'collections.abc',
    ):
        args = [arg for arg in args if arg is not ...]
        if not isinstance(value, (list, tuple, range)):
            return is_number(value) and args in ([int], [float])
        if kind is tuple and len(args) > 1:
            return len(value) == len(args) and all(map(fits, value, args))
        return not args or all(
            fits(v, args[0])
            or (isinstance(v, (list, tuple)) and fits(v, hint))
            for v in value
        )
    # Another class: an object of it, or what it is built from.
    if issubclass(kind, (torch.Tensor, np.ndarray)):
        return not isinstance(value, PLAIN)
    return isinstance(value, Mapping) or not isinstance(value, PLAIN)


def in_words(hint: Any) -> str:
    """An annotation, as it follows "must be"."""
    if hint is bool:
        return 'True or False'
    return re.sub(r'\b(?:\w+\.)+(?=\w)', '', inspect.formatannotation(hint))


def hint_of(name: str, default: Any) -> Any:
    """What an argument without annotation is taken for.

    By its name, or by its default.
    """
    if isinstance(default, (bool, str)):
        return type(default)
    if name.endswith(('_cfg', '_cfgs')) or isinstance(default, Mapping):
        return dict | list
    if is_number(default) or isinstance(default, (list, tuple)):
        found = set(map(is_number, leaves(default)))
        return float | list | tuple if found == {True} else list | tuple
    return MISSING


@cache
def range_of(owner: str, name: str) -> str | None:
    """The numbers that a field may have, as an interval."""
    for pattern, interval in RANGES.items():
        if any(re.fullmatch(pattern, n) for n in (f'{owner}.{name}', name)):
            return interval
    return None


def choices_of(owner: Any, name: str) -> set[str]:
    """The words that a field may have; none: any."""
    attribute = getattr(owner, LISTED_BY.get(name, ''), ())
    owner = getattr(owner, '__name__', owner)
    found = CHOICES.get(f'{owner}.{name}', CHOICES.get(name, attribute))
    return set(found)


def is_in(value: Any, interval: str) -> bool:
    """Whether a number is in an interval, such as ``'int -1 or [1, 1e9)'``.

    Args:
        value: It is not if it is no number.
        interval: Round brackets exclude their limit; ``int``: whole numbers
            only; numbers before ``or`` are in it too.
    """
    if not is_number(value) or math.isnan(value):
        return False
    *others, opens, low, high, closes = re.fullmatch(
        r'(int )?(?:(\S+) or )?([\[(])(\S+), (\S+)([\])])', interval
    ).groups()
    whole, other = others
    if whole and not float(value).is_integer():
        return False
    low, high = float(low), float(high)
    return value == float(other or 'nan') or (
        (low <= value if opens == '[' else low < value)
        and (value <= high if closes == ']' else value < high)
    )


def leaves(value: Any) -> Iterator[Any]:
    """A value, or the leaves of a list of lists of them."""
    if isinstance(value, (list, tuple)):
        for v in value:
            yield from leaves(v)
    else:
        yield value


def check_value(
    field: str, value: Any, hint: Any, default: Any, owner: Any = ''
) -> None:
    """Refuse a value that its field cannot have.

    Args:
        field: Where in the config it is.
        hint: The annotation of the argument, or ``MISSING``.
        default: Its default, or ``MISSING``.
        owner: The class, or the name of the dict.

    Raises:
        ConfigError: Naming the field, the value, and what would be right.
    """
    name = field.rsplit('.', 1)[-1]
    owner_name = getattr(owner, '__name__', owner)
    if type(value) is type(default) and type(value) in PLAIN[:-1]:
        if value == default:
            return  # whatever the annotation is
    hint = HINTS.get(f'{owner_name}.{name}', HINTS.get(name, hint))
    check_type(field, value, hint, default)
    if value is None:
        return
    words, interval = choices_of(owner, name), range_of(owner_name, name)
    check_words(field, value, set() if interval else words, name, default)
    if hint is not bool and not (
        isinstance(value, Mapping) and hint is not MISSING
    ):
        check_numbers(field, value, interval, words)


def check_type(field: str, value: Any, hint: Any, default: Any) -> None:
    """Refuse a value of another type than its annotation or default has."""
    name = field.rsplit('.', 1)[-1]
    if value is None and default is None and name not in HINTS:
        return
    if value is None and name.endswith('_cfg') and default is not MISSING:
        return  # toolboxes leave Optional out
    if value is None and isinstance(default, str):
        refuse(field, value, 'must be given, or left out')
    if hint is MISSING or isinstance(hint, str):
        hint = hint_of(name, default)
    if not fits(value, hint):
        refuse(field, value, f'must be {in_words(hint)}')
    if value is None and hint is MISSING:
        refuse(field, value, 'must be given, or left out')


def check_words(
    field: str, value: Any, choices: set[str], name: str, default: Any
) -> None:
    """Refuse a word that is not among a field's, or a slip of one."""
    if name == 'filename_tmpl' and isinstance(value, str):
        if '{' not in value:
            refuse(field, value, 'must have {} where the number goes')
    slips = default if name == 'meta_keys' and default is not MISSING else ()
    for word in leaves(value):
        if not isinstance(word, str):
            continue
        if choices and {word, word.lower()}.isdisjoint(choices):
            refuse(field, value, f'must be one of {sorted(choices)}')
        if word not in slips and is_misspelled(word, slips):
            near = nearest(word, slips)
            refuse(field, value, f'{word!r}: did you mean {near!r}?')


def check_numbers(
    field: str, value: Any, interval: str | None, words: set[str]
) -> None:
    """Refuse numbers out of a field's interval, and what is none."""
    for v in leaves(value):
        if isinstance(v, str) and (not interval or v.lower() in words):
            continue
        if (interval or is_number(v)) and not is_in(v, interval or ANY):
            limits = interval or ANY
            kind = 'an integer' if limits.startswith('int') else 'a number'
            within = limits.replace('int ', '')
            within += f', or one of {sorted(words)}' if words else ''
            refuse(field, value, f'must be {kind} in {within}')
