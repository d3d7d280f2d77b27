"""What a trained classifier says of images."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mmengine.config import Config
from mmengine.device import get_device
from mmpretrain.apis import ImageClassificationInferencer

from ..checkpoint.heads import fit_heads
from .embed import files_of


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
        ValueError: If the config is of another task, or the checkpoint has
            not its weights.
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
    infer = ImageClassificationInferencer(
        cfg, str(checkpoint), device=get_device()
    )
    classes = cfg.val_dataloader.dataset.get('metainfo', {}).get('classes')
    return [
        {
            'file': file,
            'class': (
                classes[result['pred_label']]
                if classes
                else result.get('pred_class', str(result['pred_label']))
            ),
            'score': round(float(result['pred_score']), 4),
        }
        for file, result in zip(files, infer(files, batch_size=32))
    ]
