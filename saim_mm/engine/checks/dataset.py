"""A look at the data before training."""

from __future__ import annotations

import os
import re
from pathlib import Path

from mmengine.dataset import InfiniteSampler
from mmengine.fileio import list_from_file
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, IterBasedTrainLoop
from mmpretrain.models import ClsBatchNormNeck
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import Dataset

from ...datasets.in_memory import ImagesInMemory
from ...datasets.sampler import ReproducibleSampler
from ...utils.check import check_arg, check_within_root


def check_data(loop: BaseLoop, model: nn.Module) -> None:
    """Compare the data of a training loop with it, the model and the disk.

    Raises:
        ValueError: If the sampler is not one for such a loop, the dataset does
            not fill one batch or leaves one image that BatchNorm cannot learn
            from, or images in memory are not of the model's size; or as
            :func:`check_dataset`.
        FileNotFoundError: As :func:`check_dataset`.
    """
    loader, sampler = loop.dataloader, loop.dataloader.sampler
    check_dataset(loader.dataset, model)
    infinite = isinstance(sampler, InfiniteSampler) or getattr(
        sampler, 'infinite', False
    )
    for name in batch_norm_of_vectors(model):
        why = (
            f'BatchNorm model.{name} has nothing to learn from an image alone'
        )
        check_arg(
            loader.batch_size != 1,
            'train_dataloader.batch_size',
            1,
            f'2 or more in each process: {why}',
        )
        check_arg(
            infinite
            or loader.drop_last
            or loader.batch_size is None  # of a batch_sampler
            or len(sampler) % loader.batch_size != 1,
            'train_dataloader.drop_last',
            False,
            'True, or train_dataloader.batch_size another than '
            f'{loader.batch_size}: the last of {len(sampler)} images would be '
            f'a batch of its own, and {why}',
        )
    size = getattr(getattr(model, 'backbone', None), 'img_size', None)
    if isinstance(loader.dataset, ImagesInMemory) and size is not None:
        found = tuple(loader.dataset.images.shape[2:])
        check_arg(
            size in (found, found[0]),
            'model.backbone.img_size',
            size,
            f'{found}, the size of the images in memory '
            f'({loader.dataset.data_root})',
        )
    if isinstance(sampler, ReproducibleSampler):
        for kind, right in (
            (EpochBasedTrainLoop, False),
            (IterBasedTrainLoop, True),
        ):
            check_arg(
                not isinstance(loop, kind) or sampler.infinite == right,
                'train_dataloader.sampler.infinite',
                sampler.infinite,
                f'{right} with train_cfg.type={kind.__name__!r}',
            )
    if not infinite and len(loader) == 0:
        raise ValueError(
            f'train_dataloader.batch_size={loader.batch_size}: must be at '
            f'most the {len(loader.dataset)} images of the dataset (for '
            'each process), or set train_dataloader.drop_last=False'
        )


def batch_norm_of_vectors(model: nn.Module) -> list[str]:
    """Names of BatchNorms that see one number a channel of each image.

    They are those of probes, and UperNet's behind the pooling to one pixel.
    (SyncBN has the images of all processes.)
    """
    return [
        name
        for name, part in model.named_modules()
        if isinstance(part, _BatchNorm)
        and not isinstance(part, nn.SyncBatchNorm)
        and (
            'psp_modules.0.' in name
            or isinstance(
                model.get_submodule(name.rpartition('.')[0]), ClsBatchNormNeck
            )
        )
    ]


def check_dataset(dataset: Dataset, model: nn.Module) -> None:
    """Compare a dataset with the model's heads, and with the disk.

    Args:
        dataset: For training.

    Raises:
        ValueError: If the number of classes is not that of every head, and of
            what mixes images and labels, or is one for a classifier.
        FileNotFoundError: If one of a thousand files of a classification
            dataset's list is missing.
    """
    classes = (getattr(dataset, 'metainfo', None) or {}).get('classes')
    heads = {
        name: module.num_classes
        for name, module in model.named_modules()
        if re.search(r'(^|[._])head(\.\d+)?$', name)
        and not name.startswith('rpn_head')
        and isinstance(getattr(module, 'num_classes', None), int)
    }
    if classes is None or not heads:
        return
    classifier = 'head' in heads
    if classifier and len(classes) < 2:
        raise ValueError(
            f'train_dataloader.dataset.data_root={dataset.data_root!r}: must '
            f'hold at least two classes, a folder each; found {list(classes)}'
        )
    for name, number in heads.items():
        if number != len(classes):
            raise ValueError(
                f'model.{name}.num_classes={number}: must be {len(classes)}, '
                'the classes of the training data '
                f'({", ".join(classes[:5])}{", ..." * (len(classes) > 5)})'
            )
    if not classifier:
        return
    preprocessor = model.data_preprocessor
    check_arg(
        not getattr(preprocessor, 'to_onehot', False)
        or preprocessor.num_classes == len(classes),
        'data_preprocessor.num_classes',
        getattr(preprocessor, 'num_classes', None),
        f'{len(classes)}, as model.head.num_classes: so long are the labels '
        'that Mixup and CutMix mix',
    )
    listed = getattr(dataset, 'ann_file', '')  # none of several data sets
    if listed:
        field = f'train_dataloader.dataset.ann_file={listed!r}'
        for line in list_from_file(listed):
            if line.startswith('/') or '..' in line:
                path = os.path.join(dataset.img_prefix, line.rsplit(' ', 1)[0])
                check_within_root(path, dataset.img_prefix, field)
    for index in range(0, len(dataset), max(1, len(dataset) // 1000)):
        path = dataset.get_data_info(index).get('img_path', '')
        if '://' not in path and not Path(path).exists():
            raise FileNotFoundError(
                f'{path}: no such file, though '
                f'train_dataloader.dataset.ann_file={listed!r} '
                'names it; correct the list, or data_root and data_prefix'
            )
