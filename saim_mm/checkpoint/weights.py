"""Weights into models: completely, or not at all."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from mmengine.model import update_init_info
from mmengine.registry import WEIGHT_INITIALIZERS
from torch import Tensor, nn

from ..utils.weights import explain, shorten
from .formats import detect_format, from_format
from .loader import load_state_dict

#: Where models of mmpretrain have their encoder.
BACKBONE = 'backbone.'


def load_renamed_state_dict(filename: str | Path) -> dict[str, Tensor]:
    """Read weights of any format, under this package's names.

    Args:
        filename: As for :func:`~.loader.load_from_local`.

    Returns:
        dict[str, Tensor]: As :func:`~.formats.from_format`; if they are of
        none of its formats, under their own names.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is damaged, or has weights that a plain ViT does
            not.
    """
    weights = load_state_dict(filename)
    try:
        format = detect_format(weights)
    except ValueError:  # of another network
        return weights
    if format == 'mmpretrain':
        return weights
    try:
        return from_format(weights, format)
    except ValueError as error:
        raise ValueError(f'checkpoint={str(filename)!r}: {error}') from error


def load_backbone_weights(
    backbone: nn.Module,
    filename: str | Path,
    prefix: str | None = None,
    new: tuple[str, ...] = (),
) -> None:
    """Load the encoder of a checkpoint, of any format.

    Decoders and heads are left out, and the log says so.

    Args:
        backbone: Such as a :class:`~saim_mm.SAIMViT`.
        filename: As for :func:`~.loader.load_from_local`.
        prefix: Where the encoder stands in the checkpoint's names, or in those
            that its format is given here. Defaults to None: under 'backbone.'
            if anything is, else at the top.
        new: Beginnings of the names of weights that stay as they are, if the
            checkpoint lacks them. Defaults to none.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is damaged; has no such encoder; or has not exactly
            the weights of the backbone.
    """
    field = f'checkpoint={str(filename)!r}'
    weights = load_renamed_state_dict(filename)
    if prefix is None:
        inside = any(name.startswith(BACKBONE) for name in weights)
        prefix = BACKBONE if inside else ''
    elif prefix and not prefix.endswith('.'):
        prefix += '.'
    encoder = {
        name.removeprefix(prefix): value
        for name, value in weights.items()
        if name.startswith(prefix)
    }
    if not encoder:
        raise ValueError(
            f'{field}: it has no weights that begin with {prefix!r}, so no '
            f'encoder under that name (but {shorten(list(weights))}): load a '
            'checkpoint of a whole model, or set backbone.init_cfg.prefix '
            '(None: it is of a backbone alone)'
        )
    parts = {n.split('.')[0] for n in weights if not n.startswith(prefix)}
    if parts:
        print_log(
            f'{field}: its encoder is loaded; left out: {sorted(parts)}',
            logger='current',
        )
    started = [
        name
        for name in backbone.state_dict()
        if name.startswith(new) and name not in encoder
    ]
    if started:
        print_log(
            f'{field}: lacks {shorten(started)}, which start anew',
            logger='current',
            level=logging.WARNING,
        )
        own = backbone.state_dict()
        encoder |= {name: own[name] for name in started}
    load_weights(backbone, encoder, field)


def load_weights(
    model: nn.Module,
    weights: dict[str, Tensor],
    field: str,
    allow_extra: bool = False,
) -> None:
    """Load all weights of a model.

    Args:
        model: The model. A :class:`~saim_mm.SAIMViT`, or one in it, says
            itself what it can do without.
        weights: By name.
        field: What errors begin with.
        allow_extra: Whether some may be left over.

    Raises:
        ValueError: If some are missing, left over, or of another size.
    """
    try:
        missing, extra = model.load_state_dict(weights, strict=False)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f'{field}: {error}') from error
    checked = [  # by themselves
        f'{name}.' if name else ''
        for name, module in model.named_modules()
        if hasattr(module, 'min_match_ratio')
    ]
    missing, extra = (
        [n for n in names if not n.startswith(tuple(checked))]
        for names in (missing, extra)
    )
    if allow_extra:
        extra = []
    if missing or extra:
        raise ValueError(
            f'{field}: '
            + (f'lacks {shorten(missing)}' if missing else '')
            + (' and ' if missing and extra else '')
            + (
                f'has {shorten(extra)}, for which there is no place'
                f'{explain(extra)}'
                if extra
                else ''
            )
            + '; load a checkpoint of the same model'
        )


@WEIGHT_INITIALIZERS.register_module()
class PretrainedViT:
    """What ``init_cfg=dict(type='Pretrained')`` of a SAIMViT becomes.

    Unlike MMEngine's it takes files of all formats, and loads all or nothing.
    A norm after the average of the patches, which only fine-tuning has, starts
    anew if the checkpoint lacks it.

    Args:
        checkpoint: As for :func:`load_backbone_weights`.
        prefix: As there.
        map_location: For MMEngine; weights go where the backbone is.
    """

    def __init__(
        self,
        checkpoint: str,
        prefix: str | None = None,
        map_location: Any = None,
    ) -> None:
        self.checkpoint = checkpoint
        self.prefix = prefix

    def __call__(self, module: nn.Module) -> None:
        load_backbone_weights(
            module, self.checkpoint, self.prefix, new=('ln2.',)
        )
        if hasattr(module, '_params_init_info'):
            update_init_info(module, f'loaded from {self.checkpoint}')
