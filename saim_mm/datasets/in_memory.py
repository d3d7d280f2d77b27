"""ImagesInMemory: small images, decoded once."""

from __future__ import annotations

import os
from typing import Any

import torch
from mmengine.registry import DATASETS
from mmpretrain.structures import DataSample

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
    returned as they are: crops and flips are those of
    :class:`~saim_mm.PixelPreprocessor`'s ``batch_augments``. (No loading
    processes are needed: ``num_workers=0``.)

    Files that cannot be read are named in the log, counted as there, and left
    out.

    Args:
        data_root: The folder.
        **kwargs: As for :class:`UnlabelledImages`, without ``pipeline``.

    Raises:
        ValueError: If images differ in size, or would fill more than half of
            the machine's memory.
    """

    def __init__(self, data_root: str, **kwargs: Any) -> None:
        check_arg(
            not kwargs.get('pipeline'),
            'dataset.pipeline',
            kwargs.get('pipeline'),
            'left out: images in memory are cropped in batches, see '
            'data_preprocessor.batch_augments',
        )
        super().__init__(data_root=data_root, **kwargs)

    def full_init(self) -> None:
        """List the images and decode them."""
        if self._fully_initialized:
            return
        super().full_init()
        self.images, readable = self.decode()  # (N, 3, H, W), uint8, BGR
        if len(readable) < len(self):
            self.get_subset_(readable)
            self.unreadable = self.unreadable[readable]

    def decode(self) -> tuple[torch.Tensor, list[int]]:
        """The images that can be read, and which these are."""
        images, readable, first = None, [], ''
        for index in range(len(self)):
            path = self.get_data_info(index)['img_path']
            try:
                image = torch.from_numpy(read_image(path).copy())
            except ValueError as error:
                self._count_unreadable(index, path, error)
                continue
            if images is None:
                first = path
                images = self.reserve(image)
            height, width = image.shape[:2]
            check_arg(
                image.shape == images.shape[1:],
                'train_dataloader.dataset.type',
                type(self).__name__,
                f"'UnlabelledImages' (with a pipeline) for images of several "
                f'sizes: {path} has {width} x {height} pixels, {first} '
                f'{images.shape[2]} x {images.shape[1]}',
            )
            images[len(readable)] = image
            readable.append(index)
        if images is None:
            raise ValueError(
                f'dataset.data_root={self.data_root!r}: must hold an image '
                'that can be read'
            )
        images = images[: len(readable)].permute(0, 3, 1, 2).contiguous()
        return images, readable

    def reserve(self, image: torch.Tensor) -> torch.Tensor:
        """Memory for all images, each as large as the first."""
        memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
        needed = len(self) * image.numel()
        check_arg(
            needed <= SHARE * memory,
            'train_dataloader.dataset.type',
            type(self).__name__,
            f"'UnlabelledImages' (with a pipeline): {len(self):,} images of "
            f'{image.shape[1]} x {image.shape[0]} pixels are '
            f'{needed / 2**30:.1f} GiB, and this machine has '
            f'{memory / 2**30:.1f}',
        )
        return torch.empty((len(self), *image.shape), dtype=torch.uint8)

    def __getitem__(self, idx: int) -> dict:
        """An image, as it is.

        Returns:
            ``inputs``, (3, H, W), uint8, BGR, and ``data_samples``.
        """
        if not self._fully_initialized:
            self.full_init()
        path = self.get_data_info(int(idx))['img_path']
        sample = DataSample(metainfo=dict(img_path=path))
        return dict(inputs=self.images[int(idx)], data_samples=sample)
