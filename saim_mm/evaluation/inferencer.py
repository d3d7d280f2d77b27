"""The toolboxes' own inferencers, with this package's look at weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import DATASETS
from torch import nn

from ..checkpoint.heads import class_counts, fit_heads
from ..utils.check import check_arg
from ..utils.dependency import require


def inferencer(
    cfg: Config,
    checkpoint: str | Path,
    device: str | None = None,
    **arguments: Any,
) -> Any:
    """The toolbox's own, mmdet's or mmseg's, by ``default_scope``.

    Args:
        cfg: Changed: gets the numbers of classes that the checkpoint has.
        **arguments: Of the inferencer.

    Raises:
        ImportError: Without the toolbox.
        ValueError: If the checkpoint has not the model's weights, or the
            config no pipeline.
    """
    check_pipeline(cfg)
    fit_heads(cfg, checkpoint)
    device = device or get_device()
    if cfg.default_scope == 'mmdet':
        require('mmdet.apis', 'a detector')
        from mmdet.apis import DetInferencer as Base
    else:
        require('mmseg.apis', 'a segmentation model')
        from mmseg.apis import MMSegInferencer as Base

    class Inferencer(Base):
        """Without names of classes it does not take COCO's, or Cityscapes'."""

        def _load_weights_to_model(
            self, model: nn.Module, checkpoint: dict, cfg: Config
        ) -> None:
            meta = checkpoint.get('meta') or {}
            named = dict(dataset_meta=class_meta(cfg, meta))
            checkpoint = {**checkpoint, 'meta': {**meta, **named}}
            super()._load_weights_to_model(model, checkpoint, cfg)

    return Inferencer(cfg, str(checkpoint), device=device, **arguments)


def check_pipeline(cfg: Config) -> None:
    """Refuse a config that does not say how its model sees an image."""
    check_arg(
        bool(cfg.get('test_dataloader')),
        'test_dataloader',
        cfg.get('test_dataloader'),
        'set: its dataset.pipeline says how the model sees an image (the data '
        'need not be there); take it from the config that this one is of',
    )


def class_meta(cfg: Config, meta: Mapping[str, Any]) -> dict[str, Any]:
    """Names and colours of a model's classes.

    Args:
        cfg: With as many classes as the model has.
        meta: Of the checkpoint.

    Returns:
        ``classes`` and ``palette`` of the checkpoint, or else of the config's
        data; numbers, and colours by chance, if neither has as many.
    """
    counts = class_counts(cfg.model)
    number = max(counts.values(), default=None)
    scope = cfg.get('default_scope', 'mmpretrain')
    found = [meta.get('dataset_meta')]
    for name in ('test_dataloader', 'val_dataloader', 'train_dataloader'):
        data = (cfg.get(name) or {}).get('dataset') or {}
        with DATASETS.switch_scope_and_registry(scope) as registry:
            kind = registry.get(data['type']) if 'type' in data else None
        found += [data.get('metainfo'), getattr(kind, 'METAINFO', None)]
    for names in found:
        names = {key.lower(): x for key, x in (names or {}).items()}
        classes, colors = names.get('classes'), names.get('palette')
        if not isinstance(classes, (list, tuple)):
            continue
        if number in (None, len(classes)):
            break
    else:
        classes, colors = [str(i) for i in range(number or 0)], None
    if not isinstance(colors, (list, tuple)) or (len(colors) != len(classes)):
        random = np.random.default_rng(0)
        colors = random.integers(256, size=(len(classes), 3)).tolist()
    colors = [tuple(color) for color in colors]  # mmdet takes no lists
    return dict(classes=tuple(classes), palette=colors)
