"""ImagesInMemory: small images, decoded once."""

from __future__ import annotations

import os
from typing import Any

import torch
from mmengine.registry import DATASETS
from mmpretrain.structures import DataSample
from torch import Tensor

from ..utils.check import check_arg
from .image_folder import UnlabelledImages
from .images import read_image

#: Of the machine's memory, what images may fill.
SHARE = 0.5


@DATASETS.register_module()
class ImagesInMemory(UnlabelledImages):
    """As :class:`UnlabelledImages`, all of one size, decoded once.

    For images of tens of pixels, which take longer to be opened, decoded and
    cropped one by one than a small model takes to learn from them. They are
    returned as they are: :class:`~saim_mm.PixelPreprocessor` crops them
    (``random_crop``). On a CPU no loading process is needed
    (``num_workers=0``).

    Args:
        data_root: The folder.
        **kwargs: As for :class:`UnlabelledImages`, without ``pipeline``.

    Raises:
        FileNotFoundError: If the folder does not exist.
        ValueError: If it holds no image that can be read, or images that
            differ in size, or would fill more than half of the machine's
            memory.
    """

    def __init__(self, data_root: str, **kwargs: Any) -> None:
        check_arg(
            not kwargs.get('pipeline'),
            'dataset.pipeline',
            kwargs.get('pipeline'),
            'left out: images in memory are cropped in batches, see '
            'data_preprocessor.random_crop',
        )
        super().__init__(data_root=data_root, **kwargs)

    def full_init(self) -> None:
        """List the images and decode them."""
        if self._fully_initialized:
            return
        super().full_init()
        #: (N, 3, H, W), uint8, BGR.
        self.images = torch.empty(0)
        #: Path of an image -> its number among them.
        self.numbers: dict[str, int] = {}
        first = ''
        for index in range(len(self)):
            path = self.get_data_info(index)['img_path']
            try:
                image = torch.from_numpy(read_image(path).copy())
            except ValueError as error:
                self._count_unreadable(index, path, error)
                continue
            image = image.permute(2, 0, 1)
            if not self.numbers:
                first, self.images = path, self.reserve(image)
            (height, width), size = image.shape[1:], self.images.shape[2:]
            check_arg(
                (height, width) == size,
                'train_dataloader.dataset.type',
                type(self).__name__,
                f"'UnlabelledImages' (with a pipeline) for images of several "
                f'sizes: {path} has {width} x {height} pixels, {first} '
                f'{size[1]} x {size[0]}',
            )
            number = self.numbers.setdefault(path, len(self.numbers))
            self.images[number] = image
        if not self.numbers:
            raise ValueError(
                f'dataset.data_root={self.data_root!r}: must hold an image '
                'that can be read'
            )

    def reserve(self, image: Tensor) -> Tensor:
        """Memory for all images, each as large as the first."""
        memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
        processes = int(os.environ.get('LOCAL_WORLD_SIZE', 1))
        needed = len(self) * image.numel() * processes
        check_arg(
            needed <= SHARE * memory,
            'train_dataloader.dataset.type',
            type(self).__name__,
            f"'UnlabelledImages' (with a pipeline): {len(self):,} images of "
            f'{image.shape[2]} x {image.shape[1]} pixels, in each of '
            f'{processes} processes, are {needed / 2**30:.1f} GiB, and this '
            f'machine has {memory / 2**30:.1f}',
        )
        return torch.empty((len(self), *image.shape), dtype=torch.uint8)

    def __getitem__(self, idx: int) -> dict:
        """An image as it is, or another if it could not be read.

        Returns:
            ``inputs``, (3, H, W), uint8, BGR, and ``data_samples``.
        """
        item = None
        if self._fully_initialized:
            item = self.prepare_data(int(idx))
        return super().__getitem__(idx) if item is None else item

    def prepare_data(self, idx: int) -> dict | None:
        """An image, or None if it could not be read."""
        path = self.get_data_info(idx)['img_path']
        number = self.numbers.get(path)
        if number is None:
            return None
        sample = DataSample(metainfo=dict(img_path=path))
        return dict(inputs=self.images[number].clone(), data_samples=sample)
