"""mmcv's two operators that detection needs, computed by torchvision.

mmcv's wheels lack compiled operators, and building them takes a compiler and a
quarter of an hour. Of its several dozen Faster and Mask R-CNN use ``nms`` and
``roi_align``, which torchvision has too.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable
from functools import wraps
from importlib.machinery import ModuleSpec
from types import ModuleType

import torch
import torchvision
from mmengine.logging import print_log
from torch import Tensor

from .dtype import at_least_float32

#: The module of mmcv's compiled operators.
NAME = 'mmcv._ext'


def install() -> bool:
    """Put torchvision's operators where mmcv looks for its compiled ones.

    Compiled ones, if they can be loaded, stay for what they can compute.

    Returns:
        Whether mmcv has none that can be loaded.
    """
    try:
        found = importlib.import_module(NAME)
    except ImportError as error:
        sys.modules[NAME] = TorchvisionOps(NAME)
        replace_fallbacks()
        reason = 'mmcv has no compiled operators'
        if not isinstance(error, ModuleNotFoundError):
            reason = f"mmcv's compiled operators cannot be loaded ({error})"
        print_log(
            f"{reason}: nms and roi_align are torchvision's",
            logger='current',
            level=logging.INFO,
        )
        return True
    if isinstance(found, TorchvisionOps):
        return True
    for operator in (nms, roi_align_forward, roi_align_backward):
        compiled = getattr(found, operator.__name__)
        if not hasattr(compiled, '__wrapped__'):
            setattr(found, operator.__name__, guard(compiled, operator))
    return False


def guard(compiled: Callable, ours: Callable) -> Callable:
    """A compiled operator, and ours for what it refuses or gets wrong.

    It refuses bfloat16 and dtypes that differ, as autocast's do, and takes
    strided tensors for contiguous ones.
    """

    @wraps(compiled)
    def operator(first: Tensor, second: Tensor, *args, **kwargs):
        known = first.dtype == second.dtype in (torch.float32, torch.float64)
        for tensor in (first, second):
            known = known and tensor.is_contiguous()
        return (compiled if known else ours)(first, second, *args, **kwargs)

    return operator


def replace_fallbacks() -> None:
    """Give modules the operators that they could not import before.

    mmpretrain and mmdet's scripts import some of mmdet before a config is
    read, whose modules then define functions that only raise in the place of
    mmcv's. mmcv itself leaves out a class that mmdet 3.3 imports.
    """
    operators = importlib.import_module('mmcv.ops')
    transformer = importlib.import_module('mmcv.cnn.bricks.transformer')
    name = 'MultiScaleDeformableAttention'
    setattr(transformer, name, getattr(operators, name))
    for name, module in list(sys.modules.items()):
        if not name.startswith('mmdet.'):
            continue
        for key in operators.__all__:
            found = getattr(module, key, None)
            if getattr(found, '__module__', None) == name:
                setattr(module, key, getattr(operators, key))


class TorchvisionOps(ModuleType):
    """Stands for ``mmcv._ext``.

    Its functions have the signatures that mmcv calls. An operator that it
    lacks raises NotImplementedError when it is called: mmcv looks up all of
    them when it is imported.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name, self.__doc__)
        self.__spec__ = ModuleSpec(name, loader=None, origin=__file__)
        self.nms = nms
        self.roi_align_forward = roi_align_forward
        self.roi_align_backward = roi_align_backward

    def __getattr__(self, name: str):
        if name.startswith('__'):
            raise AttributeError(name)

        def missing(*args, **kwargs):
            raise NotImplementedError(
                f'mmcv.ops: {name} needs mmcv with compiled operators; only '
                'nms and roi_align work without. To compile them: docs/faq.md'
            )

        return missing


def nms(
    boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int
) -> Tensor:
    """Non-maximum suppression.

    Args:
        boxes: (N, 4), left, top, right, bottom.
        scores: (N,).
        iou_threshold: A box that overlaps a better one by more goes.
        offset: 1 if right and bottom are inside of the box, as in mmdet's
            first version, else 0.

    Returns:
        int64, indices of the boxes that stay, the best first.
    """
    boxes, scores = at_least_float32(boxes, scores)
    if offset:
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    return torchvision.ops.nms(boxes, scores, iou_threshold)


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Sample a map in boxes (Mask R-CNN, Sec. 3).

    Args:
        input: (B, C, H, W).
        rois: (N, 5), number of the image, left, top, right, bottom.
        output: (N, C, aligned_height, aligned_width), written.
        argmax_y, argmax_x: Of max pooling.
        aligned_height, aligned_width: Bins of a box.
        spatial_scale: Of the map's coordinates to the boxes'.
        sampling_ratio: Samples along each side of a bin; 0: as many as the map
            has points.
        pool_mode: 1: mean of the samples.
        aligned: Whether coordinates are shifted by half a point.

    Raises:
        NotImplementedError: For ``pool_mode`` 0, the maximum.
    """
    refuse_max_pooling(pool_mode)
    features, boxes = at_least_float32(input, rois)
    output.copy_(
        torchvision.ops.roi_align(
            features,
            boxes,
            (aligned_height, aligned_width),
            spatial_scale,
            sampling_ratio,
            aligned,
        )
    )


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Gradient of :func:`roi_align_forward` by the map.

    Args:
        grad_output: (N, C, aligned_height, aligned_width).
        grad_input: (B, C, H, W), written.
        rois, argmax_y, argmax_x, aligned_height, aligned_width, spatial_scale,
            sampling_ratio, pool_mode, aligned: As there.

    Raises:
        NotImplementedError: As there.
    """
    refuse_max_pooling(pool_mode)
    gradient, boxes = at_least_float32(grad_output, rois)
    grad_input.copy_(
        torch.ops.torchvision._roi_align_backward(
            gradient,
            boxes,
            spatial_scale,
            aligned_height,
            aligned_width,
            *grad_input.shape,
            sampling_ratio,
            aligned,
        )
    )


def refuse_max_pooling(pool_mode: int) -> None:
    """Refuse what torchvision's kernel does not have."""
    if pool_mode != 1:
        raise NotImplementedError(
            "roi_layer.pool_mode='max': needs mmcv with compiled operators; "
            "set it to 'avg', or compile them: docs/faq.md"
        )
