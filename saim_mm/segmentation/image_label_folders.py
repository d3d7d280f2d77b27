"""ImageLabelFolders: anybody's images and label maps, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.registry import DATASETS, TRANSFORMS
from mmseg.datasets import BaseSegDataset
from mmseg.datasets.transforms import LoadAnnotations

from ..datasets.images import EXTENSIONS, find_images
from ..utils.check import check_arg


@DATASETS.register_module()
class ImageLabelFolders(BaseSegDataset):
    """A folder of images, and one of label maps with the same names.

    A label map is a PNG of one channel with the number of its class in every
    pixel; 255 is void. The classes are ``metainfo['classes']``, or the lines
    of ``classes.txt`` in ``data_root``.

    Args:
        data_root: Root of ``data_prefix``.
        data_prefix: ``img_path`` and ``seg_map_path``, the folders; their
            sub-folders are searched too.
        metainfo: ``classes``, and perhaps ``palette``, a colour for each.
        void: Labels that are void beside 255. Defaults to none.
        **kwargs: As for mmseg's
            :class:`~mmseg.datasets.BaseSegDataset`.

    Raises:
        FileNotFoundError: If a folder, ``classes.txt`` or the label map of
            an image is not there.
        ValueError: If there is no image.
    """

    def __init__(
        self,
        data_root: str,
        data_prefix: dict,
        metainfo: dict | None = None,
        void: Sequence[int] = (),
        **kwargs,
    ) -> None:
        self.void = {int(label): 255 for label in void}
        metainfo = dict(metainfo or {})
        if 'classes' not in metainfo:
            names = Path(data_root) / 'classes.txt'
            if not names.is_file():
                raise FileNotFoundError(
                    f'dataset.data_root={data_root!r}: there is no file '
                    f'{names}, a line for the name of each class; write it, '
                    'or set dataset.metainfo.classes'
                )
            lines = map(str.strip, names.read_text().splitlines())
            metainfo['classes'] = tuple(line for line in lines if line)
        super().__init__(
            data_root=data_root,
            data_prefix=data_prefix,
            metainfo=metainfo,
            **kwargs,
        )
        # Where mmseg's confusion_matrix.py looks for the classes.
        self.METAINFO = self.metainfo

    def load_data_list(self) -> list[dict]:
        """List the images and their label maps.

        Returns:
            An image each.
        """
        folders = {}
        for key in ('img_path', 'seg_map_path'):
            folders[key] = Path(self.data_prefix[key])
            if not folders[key].is_dir():
                raise FileNotFoundError(
                    f'dataset.data_prefix.{key}: there is no folder '
                    f'{folders[key]}; set it and dataset.data_root'
                )
        images = find_images(folders['img_path'])
        check_arg(
            len(images) > 0,
            'dataset.data_prefix.img_path',
            str(folders['img_path']),
            f'a folder with images (names that end in one of {EXTENSIONS})',
        )
        data_list, missing = [], []
        for path in images:
            name = path.relative_to(folders['img_path'])
            label = folders['seg_map_path'] / name.with_suffix(
                self.seg_map_suffix
            )
            if not label.is_file():
                missing.append(label)
            data_list.append(
                dict(
                    img_path=str(path),
                    seg_map_path=str(label),
                    label_map=self.void or None,
                    reduce_zero_label=False,
                    seg_fields=[],
                    num_classes=len(self.metainfo['classes']),
                )
            )
        if missing:
            raise FileNotFoundError(
                f'{missing[0]}: no such label map, though there is its image '
                f'in {folders["img_path"]}; {len(missing)} of {len(images)} '
                'images have none. Add them, or take these images out'
            )
        return data_list


@TRANSFORMS.register_module()
class LoadCheckedAnnotations(LoadAnnotations):
    """mmseg's ``LoadAnnotations``, with a look at what the file holds.

    Of an image without a label map, as in inference, it loads nothing.

    Args:
        **kwargs: As for mmseg's
            :class:`~mmseg.datasets.transforms.LoadAnnotations`.
    """

    def _load_seg_map(self, results: dict) -> None:
        """Load a label map.

        Args:
            results: Of the pipeline, from an :class:`ImageLabelFolders`.

        Raises:
            ValueError: If the file is not a label map of the image's size,
                with labels of the classes or void.
        """
        if 'seg_map_path' not in results:
            return
        path = results['seg_map_path']
        try:
            super()._load_seg_map(results)
        except Exception as error:
            raise ValueError(
                f'{path}: must be a readable label map ({error})'
            ) from error
        labels = results['gt_seg_map']
        if labels.ndim != 2:
            raise ValueError(
                f'{path}: must have one channel, the number of the class, '
                f'and has {labels.shape[2]}: a coloured map? Write the '
                'classes as numbers'
            )
        size = tuple(results['ori_shape'][:2])
        if labels.shape != size:
            raise ValueError(
                f'{path}: must have the size of its image '
                f'{results["img_path"]}, {size} (height, width), and has '
                f'{labels.shape}'
            )
        number = results['num_classes']
        wrong = np.setdiff1d(labels, [*range(number), 255])
        if len(wrong):
            raise ValueError(
                f'{path}: labels must be 0 to {number - 1}, the {number} '
                f'classes, or 255 (void), and it holds {wrong[:5].tolist()}; '
                'correct it, add classes, or name void labels in dataset.void'
            )
