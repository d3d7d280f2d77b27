"""What the benchmarks share."""

from pathlib import Path

import numpy as np
import torch
from mmengine.logging import MMLogger
from PIL import Image


def make_photos(folder: Path, number: int = 64) -> Path:
    """Write windows of scikit-learn's two photographs as JPEG files.

    They are of ImageNet's most frequent size, 500 x 375 pixels (every fourth
    is upright), at quality 95: about 80 kB each.

    Args:
        folder (Path): Where.
        number (int): How many files. Defaults to 64.

    Returns:
        Path: The folder.
    """
    from sklearn.datasets import load_sample_images

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    photos = load_sample_images().images  # 427 x 640 pixels
    for i in range(number):
        photo = photos[i % len(photos)]
        height, width = (375, 500) if i % 4 else (427, 320)
        y = rng.integers(photo.shape[0] - height + 1)
        x = rng.integers(photo.shape[1] - width + 1)
        window = Image.fromarray(photo[y : y + height, x : x + width])
        if i % 4 == 0:
            window = window.resize((375, 500), Image.Resampling.BICUBIC)
        window.save(folder / f'{i:05}.jpg', quality=95)
    return folder


def quiet() -> None:
    """Let MMEngine say nothing but errors."""
    MMLogger.get_instance('bench', log_level='ERROR')


def describe(device: str) -> str:
    """The device and the version of PyTorch, for a heading."""
    name = (
        torch.cuda.get_device_name()
        if device == 'cuda'
        else f'CPU, {torch.get_num_threads()} threads'
    )
    return f'{name}, torch {torch.__version__}'


def describe_model(cfg) -> str:
    """The model of a config, for a heading."""
    backbone = cfg.model.backbone
    return (
        f'ViT {backbone.arch}/{backbone.patch_size} at {backbone.img_size}, '
        f'batch {cfg.train_dataloader.batch_size}'
    )


def save(figure, path: Path) -> None:
    """Write a figure, and say where."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    print(f'wrote {path}')
