"""What a trained classifier says of images."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dataset import Compose, default_collate
from mmengine.device import get_device
from mmpretrain.apis import get_model

from ..checkpoint.heads import fit_heads
from ..datasets.pixels import pixel_format, read_pixels
from .embed import files_of

#: Images at a time.
BATCH = 32


def classify(
    config: str | Path,
    checkpoint: str | Path,
    paths: Iterable[str | Path],
) -> list[dict[str, str | float]]:
    """Classify images.

    Args:
        config: Of an ``ImageClassifier``.
        checkpoint: Its weights.
        paths: Files, or folders, which are searched with their sub-folders.

    Returns:
        For each image ``file``, ``class`` and ``score``, its probability.

    Raises:
        FileNotFoundError: If a path is not there.
        ValueError: If the config is of another task, the checkpoint has not
            its weights, or an image cannot be read.
    """
    cfg = Config.fromfile(config)
    if cfg.model.type != 'ImageClassifier':
        raise ValueError(
            f'{config}: must be of an ImageClassifier (saim finetune writes '
            f'such), and is of a {cfg.model.type}; of detectors and '
            'segmentation tools/visualization/predictions.py draws pictures'
        )
    files = [str(path) for path in files_of(paths)]
    cfg.model.backbone.init_cfg = None  # the checkpoint has all weights
    fit_heads(cfg, checkpoint)
    model = get_model(cfg, str(checkpoint), device=get_device()).eval()
    # All but the first, which loads the image: what it cannot read is an error
    # that names the file.
    pipeline = Compose(cfg.test_dataloader.dataset.pipeline[1:])
    pixels = pixel_format(cfg)
    results = []
    for start in range(0, len(files), BATCH):
        images = [
            pipeline(dict(img=read_pixels(file, pixels)))
            for file in files[start : start + BATCH]
        ]
        with torch.no_grad():
            results += model.test_step(default_collate(images))
    for meta in (
        cfg.val_dataloader.dataset.get('metainfo'),
        getattr(model, '_dataset_meta', None),
    ):
        classes = (meta or {}).get('classes')
        if classes:
            break
    labels = [int(result.pred_label) for result in results]
    return [
        {
            'file': file,
            'class': classes[label] if classes else str(label),
            'score': round(float(result.pred_score.max()), 4),
        }
        for file, label, result in zip(files, labels, results)
    ]
