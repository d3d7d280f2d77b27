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
from torch.utils.data import get_worker_info

from .errors import check, check_inside
from .reproducible import Draw, seed_cpu, seeded

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


class TooManyUnreadable(RuntimeError):
    """More files cannot be read than the config allows."""


@DATASETS.register_module()
class UnlabelledImages(CustomDataset):
    """Every image in a folder and its sub-folders, without labels.

    Images of any mode (grey, RGBA, CMYK, palette, 16 bit) become three
    channels of 8 bit. A file that cannot be read is named once in the log and
    in ``report``, counted, and replaced by another, chosen at random.

    Args:
        data_root (str): The folder.
        pipeline (Sequence[dict]): Transforms; the first loads the image.
        extensions (Sequence[str]): File names that end so are images.
            Defaults to the common ones.
        max_unreadable (float): Share of files that may be unreadable; if there
            are more, and more than ten, training stops. Defaults to 0.1.
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
        max_unreadable: float = 0.1,
        **kwargs,
    ) -> None:
        check(
            0 <= max_unreadable <= 1,
            'dataset.max_unreadable',
            max_unreadable,
            'a share, 0 to 1',
        )
        self.max_unreadable = max_unreadable
        #: Where unreadable files are listed: of training in the work_dir.
        self.report: Optional[Path] = None
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
        # What each worker reads now, or -1; the last: the main process.
        self.reading = torch.full((257,), -1).share_memory_()

    def being_read(self) -> list[str]:
        """The files that loading processes are reading right now.

        Returns:
            list[str]: Their paths; of a process that died, its last one.
        """
        return [
            self.get_data_info(index)['img_path']
            for index in self.reading.tolist()
            if index >= 0
        ]

    def load_data_list(self) -> list[dict]:
        """List the images, of the folder or of ``ann_file``.

        Returns:
            list[dict]: An image each.

        Raises:
            ValueError: If ``ann_file`` names one outside of the folder.
        """
        images = super().load_data_list()
        if self.ann_file:
            field = f'train_dataloader.dataset.ann_file={self.ann_file!r}'
            for image in images:
                check_inside(image['img_path'], self.img_prefix, field)
        return images

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
        if get_worker_info() is not None:
            # Nothing else draws here, so nothing needs to be set back.
            seed_cpu(idx.key)
            return super().__getitem__(int(idx))
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
        info = get_worker_info()
        worker = min(info.id, 255) if info else 256
        self.reading[worker] = idx
        for number, transform in enumerate(self.pipeline.transforms):
            try:
                results = transform(results)
            except Exception as error:
                if number > 0:
                    raise
                self._count_unreadable(idx, path, error)
                results = None
                break
        self.reading[worker] = -1
        return results

    def _count_unreadable(self, idx: int, path: str, error: Exception) -> None:
        if self.unreadable[idx]:
            return
        self.unreadable[idx] = 1
        reason, number = str(error).strip(), int(self.unreadable.sum())
        print_log(
            f'unreadable image, skipped: {path} ({reason}); {number} of '
            f'{len(self)} so far',
            logger='current',
            level=logging.WARNING,
        )
        if self.report:
            known = self.report.read_text() if self.report.exists() else ''
            if f'{path}\t' not in known:
                with open(self.report, 'a') as file:
                    file.write(f'{path}\t{reason}\n')
        if number > max(10, self.max_unreadable * len(self)):
            raise TooManyUnreadable(
                f'train_dataloader.dataset.max_unreadable='
                f'{self.max_unreadable}: {number} of {len(self)} files are '
                f'unreadable, the last {path} ({reason}); mend or remove them'
                + (f', listed in {self.report}' if self.report else '')
                + ', or allow more'
            )
