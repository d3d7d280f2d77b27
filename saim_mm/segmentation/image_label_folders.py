"""ImageLabelFolders: anybody's images and label maps, side by side."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import mmengine.fileio as fileio
import numpy as np
from mmengine.registry import DATASETS, TRANSFORMS
from mmseg.datasets import BaseSegDataset
from mmseg.datasets.transforms import LoadAnnotations
from PIL import Image

from ..datasets.images import EXTENSIONS, find_images
from ..utils.check import check_arg


@DATASETS.register_module()
class ImageLabelFolders(BaseSegDataset):
    """A folder of images, and one of label maps with the same names.

    A label map is a PNG of one channel with the number of its class in every
    pixel; 255 is void. The classes are ``metainfo['classes']``, or the lines
    of ``classes.txt`` in ``data_root`` but for blank ones.

    Args:
        data_root: Root of ``data_prefix``.
        data_prefix: ``img_path`` and ``seg_map_path``, the folders; their
            sub-folders are searched too.
        metainfo: ``classes``, and perhaps ``palette``, a colour for each.
        void: Labels of the files that are void beside 255. Defaults to none.
        img_suffix: How names of images end, if all of some kind are meant;
            those of label maps have ``seg_map_suffix`` ('.png') in its place.
        **kwargs: As for mmseg's
            :class:`~mmseg.datasets.BaseSegDataset`: ``ann_file`` lists the
            images to take, with their suffixes or without.

    Raises:
        FileNotFoundError: If a folder, ``ann_file``, ``classes.txt`` or the
            label map of an image is not there.
        ValueError: If there is no image, or none that ``ann_file`` names.
    """

    def __init__(
        self,
        data_root: str,
        data_prefix: dict,
        metainfo: dict | None = None,
        void: Sequence[int] = (),
        img_suffix: str = '',
        **kwargs,
    ) -> None:
        # mmseg counts from 1 down to 0 first.
        shift = int(kwargs.get('reduce_zero_label', False))
        self.void = {int(label) - shift: 255 for label in void}
        metainfo = dict(metainfo or {})
        if 'classes' not in metainfo:
            names = Path(data_root) / 'classes.txt'
            if not names.is_file():
                raise FileNotFoundError(
                    f'dataset.data_root={data_root!r}: there is no file '
                    f'{names}, a line for the name of each class; write it, '
                    'or set dataset.metainfo.classes'
                )
            try:
                lines = names.read_text('utf-8-sig').splitlines()
            except UnicodeDecodeError as error:
                raise ValueError(f'{names}: must be UTF-8 ({error})') from None
            classes = tuple(line.strip() for line in lines if line.strip())
            check_arg(
                len(classes) > 0, 'classes', str(names), 'a file with names'
            )
            metainfo['classes'] = classes
        super().__init__(
            data_root=data_root,
            data_prefix=data_prefix,
            metainfo=metainfo,
            img_suffix=img_suffix,
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
            check_arg(
                self.data_prefix.get(key) is not None,
                f'dataset.data_prefix.{key}',
                self.data_prefix.get(key),
                'a folder',
            )
            folders[key] = Path(self.data_prefix[key])
            if not folders[key].is_dir():
                raise FileNotFoundError(
                    f'dataset.data_prefix.{key}: there is no folder '
                    f'{folders[key]}; set it and dataset.data_root'
                )
        images = [
            path
            for path in find_images(folders['img_path'])
            if path.name.endswith(self.img_suffix)
        ]
        check_arg(
            len(images) > 0,
            'dataset.data_prefix.img_path',
            str(folders['img_path']),
            'a folder with images (names that end in '
            f'{self.img_suffix or f"one of {EXTENSIONS}"})',
        )
        if self.ann_file:
            images = self.choose(images, folders['img_path'])
        data_list, missing = [], []
        for path in images:
            name = path.relative_to(folders['img_path'])
            stem = name.with_suffix('').as_posix()
            if self.img_suffix:  # '_sat.jpg': 1_sat.jpg has 1_mask.png
                stem = name.as_posix().removesuffix(self.img_suffix)
            label = folders['seg_map_path'] / (stem + self.seg_map_suffix)
            if not label.is_file():
                missing.append(label)
            data_list.append(
                dict(
                    img_path=str(path),
                    seg_map_path=str(label),
                    label_map=self.void or None,
                    reduce_zero_label=self.reduce_zero_label,
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

    def choose(self, images: list[Path], folder: Path) -> list[Path]:
        """The images that ``ann_file`` names, in its order."""
        field = f'dataset.ann_file={self.ann_file!r}'
        if not Path(self.ann_file).is_file():
            raise FileNotFoundError(
                f'{field}: there is no such file; set it and '
                'dataset.data_root, or leave it out to take all images'
            )
        names = {}
        for path in images:
            name = path.relative_to(folder)
            names[name.with_suffix('').as_posix()] = path
            names[name.as_posix()] = path
        lines = Path(self.ann_file).read_text('utf-8-sig').splitlines()
        wanted = [line.strip() for line in lines if line.strip()]
        unknown = [name for name in wanted if name not in names]
        if unknown or not wanted:
            raise ValueError(
                f'{field}: must name images of {folder}, one in each line; '
                f'{unknown[:5] or "it is empty"}'
            )
        return [names[name] for name in wanted]


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
            content = fileio.get(path, backend_args=self.backend_args)
            with Image.open(io.BytesIO(content)) as image:
                if image.mode[0] in 'IF':  # mmseg keeps the lower 8 bits alone
                    check_8_bits(np.asarray(image))
            super()._load_seg_map(results)
        except Exception as error:
            raise ValueError(
                f'{path}: must be a readable label map ({error})'
            ) from error
        labels = results['gt_seg_map']
        if labels.ndim != 2:
            raise ValueError(
                f'{path}: must have one channel, the number of the class, '
                f'and is of {labels.shape}: a coloured map? Write the '
                'classes as numbers'
            )
        size = tuple(results['ori_shape'][:2])
        if labels.shape != size:
            raise ValueError(
                f'{path}: must have the size of its image '
                f'{results["img_path"]}, {size} (height, width), and has '
                f'{labels.shape}'
            )
        number = results.get('num_classes')
        if number is None:
            raise ValueError(
                'LoadCheckedAnnotations: must be in the pipeline of an '
                "ImageLabelFolders, whose classes it looks for; another's "
                "is mmseg's LoadAnnotations"
            )
        wrong = np.setdiff1d(labels, [*range(number), 255])
        if len(wrong):
            raise ValueError(
                f'{path}: labels must be 0 to {number - 1}, the {number} '
                f'classes, or 255 (void), and it holds {wrong[:5].tolist()}; '
                'correct it, add classes, or name void labels in dataset.void'
            )


def check_8_bits(labels: np.ndarray) -> None:
    """Refuse labels, (height, width), of which 8 bits are not all."""
    found = np.unique(labels)
    deep = found[found != found.astype(np.uint8)]
    if len(deep):
        raise ValueError(f'it holds {deep[:5].tolist()}; labels are 0 to 255')
