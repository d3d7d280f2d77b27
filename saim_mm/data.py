"""UnlabelledImages: a folder of images to pre-train on."""

import logging
import os.path as osp
from collections.abc import Sequence
from pathlib import Path
from typing import Optional, Union

import mmcv
import numpy as np
import torch
from mmengine.logging import print_log
from mmengine.registry import DATASETS
from mmpretrain.datasets import CustomDataset
from PIL import Image

from .reproducible import Draw, seeded

EXTENSIONS = (
    '.jpg',
    '.jpeg',
    '.png',
    '.bmp',
    '.tif',
    '.tiff',
    '.webp',
    '.ppm',
    '.pgm',
)

#: Of ImageNet, RGB, 0 to 255: what every config normalises with.
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)


def find_images(folder: Path) -> list[Path]:
    """The images in a folder and its sub-folders, by their names, sorted."""
    return sorted(
        path for path in folder.rglob('*') if path.suffix.lower() in EXTENSIONS
    )


def read_image(image: Union[str, Path, Image.Image, np.ndarray]) -> np.ndarray:
    """Read an image of any mode.

    Args:
        image (str | Path | Image | ndarray): A file, a PIL image, or an array,
            which is returned as it is.

    Returns:
        ndarray: uint8, (height, width, 3), BGR.

    Raises:
        ValueError: If it is not an image.
    """
    pixels = None
    if isinstance(image, Image.Image):
        return np.asarray(image.convert('RGB'))[..., ::-1]
    try:
        pixels = mmcv.imread(image)
    except Exception:  # OpenCV's message names neither file nor cause
        pass
    if (
        pixels is None
        or pixels.dtype != np.uint8
        or pixels.ndim != 3
        or pixels.shape[2] != 3
    ):
        what = (
            f'array of {image.dtype}, {image.shape}'
            if isinstance(image, np.ndarray)
            else image
        )
        raise ValueError(
            f'{what}: must be a readable image file, or an array of uint8, '
            '(height, width, 3)'
        )
    return pixels


@DATASETS.register_module()
class UnlabelledImages(CustomDataset):
    """Every image in a folder and its sub-folders, without labels.

    Images of any mode (grey, RGBA, CMYK, palette, 16 bit) become three
    channels of 8 bit. A file that cannot be read is named once in the log,
    counted, and replaced by another, chosen at random.

    Args:
        data_root (str): The folder.
        pipeline (Sequence[dict]): Transforms; the first loads the image.
        extensions (Sequence[str]): File names that end so are images.
            Defaults to the common ones.
        **kwargs: As for mmpretrain's
            :class:`~mmpretrain.datasets.CustomDataset`.

    Raises:
        FileNotFoundError: If the folder does not exist.
        ValueError: If it holds no image.
    """

    def __init__(
        self,
        data_root: str,
        pipeline: Sequence[dict] = (),
        extensions: Sequence[str] = EXTENSIONS,
        **kwargs,
    ) -> None:
        super().__init__(
            data_root=data_root,
            pipeline=pipeline,
            extensions=extensions,
            with_label=False,
            **kwargs,
        )

    def full_init(self) -> None:
        """List the images."""
        if self._fully_initialized:
            return
        super().full_init()
        # Shared with the dataloader's workers: 1 where a file is unreadable.
        self.unreadable = torch.zeros(
            len(self), dtype=torch.uint8
        ).share_memory_()

    def _find_samples(self) -> list:
        field = f"dataset.data_root='{self.data_root}'"
        if '://' not in self.img_prefix and not osp.isdir(self.img_prefix):
            raise FileNotFoundError(
                f'{field}: no such folder; set it to a folder of images '
                '(train_dataloader.dataset.data_root in the config)'
            )
        try:
            return super()._find_samples()
        except RuntimeError as error:
            raise ValueError(
                f'{field}: must hold at least one image, with a name that '
                f'ends in one of {sorted(self.extensions)}'
            ) from error

    def __getitem__(self, idx: int) -> dict:
        """Load and transform an image, or another if it cannot be read.

        Args:
            idx (int): Index of the image; of a
                :class:`~saim_mm.reproducible.Draw` the crop depends on its key
                alone.

        Returns:
            dict: What the pipeline returns.
        """
        if not isinstance(idx, Draw):
            return super().__getitem__(idx)
        with seeded(idx.key):
            return super().__getitem__(int(idx))

    def prepare_data(self, idx: int) -> Optional[dict]:
        """Load and transform an image.

        Args:
            idx (int): Index of the image.

        Returns:
            dict | None: What the pipeline returns, or None if the file cannot
            be read; then MMEngine takes another image.
        """
        results = self.get_data_info(idx)
        path = results['img_path']
        for number, transform in enumerate(self.pipeline.transforms):
            try:
                results = transform(results)
            except Exception as error:
                if number > 0:
                    raise
                self._count_unreadable(idx, path, error)
                return None
        return results

    def _count_unreadable(self, idx: int, path: str, error: Exception) -> None:
        if self.unreadable[idx]:
            return
        self.unreadable[idx] = 1
        print_log(
            f'unreadable image, skipped: {path} ({str(error).strip()}); '
            f'{self.unreadable.sum()} of {len(self)} so far',
            logger='current',
            level=logging.WARNING,
        )
