"""COCOFormat: anybody's images with annotations in COCO's format."""

from __future__ import annotations

import json
import logging
from collections import Counter
from pathlib import Path

from mmdet.datasets import CocoDataset
from mmengine.logging import print_log
from mmengine.registry import DATASETS

from ..datasets.images import read_header, shown_shape
from ..utils.check import check_within_root
from .coco_entries import check_entries


@DATASETS.register_module()
class COCOFormat(CocoDataset):
    """mmdet's ``CocoDataset`` for one's own data, with a look at the file.

    The classes are those of the annotation file, in its order, unless
    ``metainfo`` names some of them. Boxes are cut to the image; those that are
    outside or have no area are dropped and counted in the log.

    Args:
        ann_file: Annotations in COCO's format, below ``data_root``.
        data_root: Root of ``ann_file`` and of ``data_prefix``.
        metainfo: ``classes`` to use, in the file's order all the same, which
            mmdet's evaluation goes by. Defaults to None, all.
        lazy_init: Whether to leave the file alone until :meth:`full_init`, as
            mmdet's inferencers do, which take the classes from the checkpoint.
        **kwargs: As for mmdet's :class:`~mmdet.datasets.CocoDataset`.

    Raises:
        FileNotFoundError: If the file, or the images that it names, are not
            there.
        ValueError: If the file is not in COCO's format, has not the classes
            of ``metainfo``, leaves no image to train on, or says another size
            of an image than it is shown with; or as
            :func:`~.coco_entries.check_entries`.
    """

    METAINFO = dict()

    def __init__(
        self,
        ann_file: str,
        data_root: str = '',
        metainfo: dict | None = None,
        lazy_init: bool = False,
        **kwargs,
    ) -> None:
        self.field = f'dataset.ann_file={ann_file!r}'
        super().__init__(
            ann_file=ann_file,
            data_root=data_root,
            metainfo=metainfo,
            lazy_init=True,
            **kwargs,
        )
        if not lazy_init:
            self.full_init()

    def full_init(self) -> None:
        """Read the file, unless it has been, and set the classes by it."""
        if self._fully_initialized:
            return
        content = self.read(Path(self.ann_file))
        found = [c['name'] for c in content['categories']]
        wanted = self._metainfo.get('classes', found)
        if isinstance(wanted, str):
            wanted = [wanted]
        unknown = [name for name in wanted if name not in found]
        if unknown:
            raise ValueError(
                f'dataset.metainfo.classes={list(wanted)}: must be among the '
                f'categories of {self.ann_file}, which are {found}'
            )
        # mmdet numbers the classes in the order of the file.
        self._metainfo['classes'] = tuple(n for n in found if n in wanted)
        super().full_init()

    def read(self, path: Path) -> dict:
        """Read the annotation file.

        Returns:
            Its content.

        Raises:
            FileNotFoundError: If it is not there.
            ValueError: If it is not in COCO's format.
        """
        if not path.is_file():
            raise FileNotFoundError(
                f'{self.field}: there is no file {path}; set it and '
                'dataset.data_root (of train_dataloader, val_dataloader)'
            )
        form = (
            'COCO\'s format, {"images": [...], "annotations": [...], '
            '"categories": [...]}'
        )
        try:
            content = json.loads(path.read_text())
        except ValueError as error:
            raise ValueError(
                f'{self.field}: must be in {form}; it is not JSON ({error})'
            ) from error
        parts = ('images', 'annotations', 'categories')
        missing = [
            part
            for part in parts
            if not (isinstance(content, dict) and part in content)
        ]
        if missing:
            raise ValueError(
                f'{self.field}: must be in {form}; it has no {missing}'
            )
        for part in ('images', 'categories'):
            if not content[part]:
                raise ValueError(
                    f'{self.field}: must name at least one of "{part}"; its '
                    'list is empty'
                )
        steps = getattr(self.pipeline, 'transforms', ())
        masks = any(getattr(step, 'with_mask', False) for step in steps)
        check_entries(content, self.field, masks)
        return content

    def load_data_list(self) -> list[dict]:
        """Load the annotations.

        Returns:
            An image each.

        Raises:
            FileNotFoundError: If one of a thousand images is missing.
            ValueError: If one of these has another size.
        """
        self.dropped = Counter()
        images = super().load_data_list()
        for reason, number in self.dropped.items():
            print_log(
                f'{self.field}: {number} boxes {reason}',
                logger='current',
                level=logging.WARNING,
            )
        for image in images:
            check_within_root(
                image['img_path'],
                self.data_prefix['img'] or self.data_root,
                self.field,
            )
        for image in images[:: max(1, len(images) // 1000)]:
            path = image['img_path']
            if '://' not in path and not Path(path).exists():
                raise FileNotFoundError(
                    f'{path}: no such file, though {self.field} names it; '
                    'correct dataset.data_root or dataset.data_prefix.img'
                )
            self.check_size(image)
        return images

    def check_size(self, image: dict) -> None:
        """Refuse boxes for an image of another size, or on its side."""
        path = image['img_path']
        if '://' in path:
            return
        try:
            with open(path, 'rb') as file:
                shape = shown_shape(read_header(file))
        except (OSError, ValueError, SyntaxError):
            return  # who loads it says that it cannot
        said = (image['height'], image['width'])
        if shape != said:
            raise ValueError(
                f'{path}: is shown with {shape} (height, width), and must be '
                f'of {said}, which {self.field} says: its boxes would lie '
                'elsewhere. Correct the file; or, if a camera has turned it '
                'by an EXIF tag, save it as it is shown or take the tag out'
            )

    def parse_data_info(self, raw_data_info: dict) -> dict:
        """Parse the annotations of an image.

        Args:
            raw_data_info: From the file.

        Returns:
            For the pipeline.
        """
        image = raw_data_info['raw_img_info']
        kept = []
        for annotation in raw_data_info['raw_ann_info']:
            x, y, width, height = annotation['bbox']
            left, top = max(x, 0), max(y, 0)
            right = min(x + width, image['width'])
            bottom = min(y + height, image['height'])
            if right - left < 1 or bottom - top < 1:
                self.dropped[
                    'outside the image, or under a pixel: left out'
                ] += 1
                continue
            box = [left, top, right - left, bottom - top]
            if box != [x, y, width, height]:
                self.dropped['partly outside the image: cut'] += 1
            # Files made by hand often lack the area.
            area = annotation.get('area') or box[2] * box[3]
            kept.append({**annotation, 'bbox': box, 'area': area})
        return super().parse_data_info(
            {'raw_img_info': image, 'raw_ann_info': kept}
        )

    def filter_data(self) -> list[dict]:
        """Leave out images without boxes, if ``filter_cfg`` says so.

        Returns:
            The images that stay.

        Raises:
            ValueError: If none stays.
        """
        images = super().filter_data()
        if not images or not (
            self.test_mode or any(image['instances'] for image in images)
        ):
            raise ValueError(
                f'{self.field}: must leave an image to train on; none of its '
                f'{len(self.data_list)} has a box of the classes '
                f'{list(self.metainfo["classes"])} (dataset.filter_cfg='
                f'{self.filter_cfg})'
            )
        return images
