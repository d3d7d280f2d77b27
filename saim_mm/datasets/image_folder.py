"""UnlabelledImages: a folder of images to pre-train on."""

from __future__ import annotations

import logging
import os.path as osp
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.dist import get_dist_info
from mmengine.logging import print_log
from mmengine.registry import DATASETS
from mmpretrain.datasets import CustomDataset
from torch.utils.data import get_worker_info

from ..utils.check import check_arg, check_within_root
from ..utils.seed import seed_cpu, temp_seed
from .images import EXTENSIONS, in_a_line, walk
from .sampler import SeededIndex


class TooManyUnreadable(RuntimeError):
    """More files cannot be read than the config allows."""


@DATASETS.register_module()
class UnlabelledImages(CustomDataset):
    """Every image in a folder and its sub-folders, without labels.

    Images of any mode (grey, RGBA, CMYK, palette, 16 bit) become three
    channels of 8 bit, unless the pipeline begins with ``LoadPixels``. A file
    that cannot be read is named once in the log and in ``report``, counted,
    and replaced by another, chosen at random.

    Args:
        pipeline: Transforms; the first loads the image.
        extensions: File names that end so are images. Defaults to the common
            ones.
        max_corrupt_ratio: Share of files that may be unreadable; if there are
            more, and more than ten, training stops. Each of n processes counts
            those that it met, and stops at an n-th of the share.
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
        max_corrupt_ratio: float = 0.1,
        **kwargs,
    ) -> None:
        check_arg(
            0 <= max_corrupt_ratio <= 1,
            'dataset.max_corrupt_ratio',
            max_corrupt_ratio,
            'a share, 0 to 1',
        )
        self.max_corrupt_ratio = max_corrupt_ratio
        #: Where unreadable files are listed: of training in the work_dir.
        self.report: Path | None = None
        #: Those that this process has found, and why.
        self.reasons: dict[str, str] = {}
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
        self.world_size = get_dist_info()[1]
        # What each worker reads now, or -1; the last: the main process.
        self.reading = torch.full((257,), -1).share_memory_()

    def files_in_flight(self) -> list[str]:
        """The files that loading processes are reading right now.

        Returns:
            Their paths; of a process that died, its last one.
        """
        return [
            self.get_data_info(index)['img_path']
            for index in self.reading.tolist()
            if index >= 0
        ]

    def load_data_list(self) -> list[dict]:
        """List the images, of the folder or of ``ann_file``.

        Returns:
            An image each.

        Raises:
            FileNotFoundError: If there is no ``ann_file``.
            ValueError: If it names one outside of the folder.
        """
        path = self.ann_file
        field = f'train_dataloader.dataset.ann_file={path!r}'
        if path and '://' not in path and not osp.isfile(path):
            raise FileNotFoundError(
                f'{field}: no such file; set it to a list of images, one a '
                "line, or to '' for all of the folder"
            )
        images = super().load_data_list()
        if path:
            for image in images:
                check_within_root(image['img_path'], self.img_prefix, field)
        return images

    def _find_samples(self) -> list:
        field = f"dataset.data_root='{self.data_root}'"
        if '://' not in self.img_prefix and not osp.isdir(self.img_prefix):
            name = 'data_root'
            if osp.isdir(self.data_root):
                name = 'data_prefix'
                prefix = osp.relpath(self.img_prefix, self.data_root)
                field = f'dataset.{name}={prefix!r}'
            raise FileNotFoundError(
                f'{field}: no such folder; set it to a folder of images '
                f'(train_dataloader.dataset.{name} in the config)'
            )
        try:
            if '://' in self.img_prefix:
                return super()._find_samples()
        except RuntimeError:
            found = []
        else:
            # MMEngine stops at links that have no end.
            files = walk(self.img_prefix)
            start = len(osp.join(self.img_prefix, ''))
            found = sorted(x[start:] for x in files if self.is_valid_file(x))
        if not found:
            raise ValueError(
                f'{field}: must hold at least one image, with a name that '
                f'ends in one of {sorted(self.extensions)}'
            )
        return found

    def __getitem__(self, idx: int) -> dict:
        """Load and transform an image, or another if it cannot be read.

        Args:
            idx: Index of the image; of a
                :class:`~saim_mm.datasets.sampler.SeededIndex` the crop depends
                on its key alone.

        Returns:
            What the pipeline returns.
        """
        if not isinstance(idx, SeededIndex):
            return super().__getitem__(idx)
        if get_worker_info() is not None:
            # Nothing else draws here, so nothing needs to be set back.
            return self._load_seeded(idx)
        with temp_seed(idx.key):
            return self._load_seeded(idx)

    def _load_seeded(self, draw: SeededIndex) -> dict:
        """Load an image or its stand-in, whatever has been tried before."""
        index = int(draw)
        for attempt in range(self.max_refetch):
            seed_cpu((*draw.key, attempt))
            results = self.prepare_data(index)
            if results is not None:
                return results
            seed_cpu((*draw.key, attempt))
            index = self._rand_another()
        raise TooManyUnreadable(
            f'train_dataloader.dataset.max_refetch={self.max_refetch}: of as '
            'many images in a row none could be read'
        )

    def prepare_data(self, idx: int) -> dict | None:
        """Load and transform an image.

        Args:
            idx: Index of the image.

        Returns:
            What the pipeline returns, or None if the file cannot
            be read; then MMEngine takes another image.
        """
        if self.unreadable[idx]:
            return None  # it is never opened again
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
            return  # another process has just named it
        self.unreadable[idx] = 1
        path, reason = in_a_line(path), in_a_line(str(error).strip())
        number = int(self.unreadable.sum())
        print_log(
            f'unreadable image, skipped: {path} ({reason}); {number} of '
            f'{len(self)} so far',
            logger='current',
            level=logging.WARNING,
        )
        self.reasons[path] = reason
        if self.report:
            self._write_report()
        # (Each process of a training meets its share of the files.)
        share = self.max_corrupt_ratio * len(self) / self.world_size
        if number > max(10, share):
            raise TooManyUnreadable(
                f'train_dataloader.dataset.max_corrupt_ratio='
                f'{self.max_corrupt_ratio}: {number} of {len(self)} files are '
                f'unreadable, the last {path} ({reason}); mend or remove them'
                + (f', listed in {self.report}' if self.report else '')
                + ', or allow more'
            )

    def report_to(self, report: Path) -> None:
        """List unreadable files in a file, those already found first."""
        self.report = report
        if self.reasons:
            self._write_report()

    def _write_report(self) -> None:
        try:
            known = ''
            if self.report.exists():
                known = self.report.read_text(encoding='utf-8')
            with open(self.report, 'a', encoding='utf-8') as file:
                for path, reason in self.reasons.items():
                    if f'{path}\t' not in known:
                        file.write(f'{path}\t{reason}\n')
        except OSError as failed:  # a full disk stops checkpoints first
            print_log(
                f'{self.report}: not written ({failed})',
                logger='current',
                level=logging.WARNING,
            )
