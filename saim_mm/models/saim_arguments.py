"""What the parts of a SAIM may be, and whether they fit each other."""

from __future__ import annotations

import logging
from inspect import signature
from typing import Any

from mmengine.logging import print_log
from mmpretrain.registry import MODELS as MMPRETRAIN_MODELS
from torch import nn

from ..utils.check import check_arg
from .order import PredictionOrder
from .orders import Order
from .semantic_order import SemanticOrder
from .target import SmoothedPatchTarget, Target
from .teachers import check_similarity, similarities_of


def build_target(config: dict, patch_size: int) -> Target:
    """Build a target, or refuse what is none."""
    name = config['type']
    part = MMPRETRAIN_MODELS.get(name) if isinstance(name, str) else name
    check_arg(
        isinstance(part, type) and issubclass(part, Target),
        'target_generator.type',
        name,
        "'SmoothedPatchTarget', 'FeatureTarget', 'HOGTarget', "
        "'InputEmbeddingTarget', or a Target of your own in a module that "
        'custom_imports names',
    )
    return MMPRETRAIN_MODELS.build({'patch_size': patch_size, **config})


def build_teacher(config: dict, student: nn.Module) -> nn.Module:
    """Build a teacher, or refuse what is none."""
    name = config['type']
    part = MMPRETRAIN_MODELS.get(name) if isinstance(name, str) else name
    check_arg(
        callable(part) and 'student' in signature(part).parameters,
        'teacher.type',
        name,
        "'MovingAverageTeacher', or 'FrozenTeacher' with that as its backbone",
    )
    return MMPRETRAIN_MODELS.build({'student': student, **config})


def check_backbone(backbone: nn.Module) -> None:
    """Refuse a backbone that pre-training cannot use."""
    check_arg(
        backbone.with_cls_token,
        'backbone.with_cls_token',
        False,
        'True in pre-training: the first patch of an order is predicted from '
        'the class token alone',
    )
    check_arg(
        backbone.final_norm,
        'backbone.final_norm',
        False,
        'True in pre-training: it is the norm before the head',
    )


def check_fit(model: Any) -> None:
    """Refuse arguments of a SAIM that do not fit each other."""
    cells = PredictionOrder.partition_grid(
        model.backbone.patch_resolution, model.segment_size
    )
    order, segments = model.order, len(cells)
    prefix = model.prefix
    check_arg(
        model.neck.depth > 0
        or not (order.random or order.looks or type(order).see != Order.see),
        'order',
        type(order).__name__,
        "the same for every image if neck.depth=0, such as 'raster', and not "
        "'stochastic': without a decoder nothing tells the encoder which "
        'patch comes next',
    )
    check_arg(
        model.neck.depth > 0 or model.segment_size == 1,
        'neck.depth',
        0,
        'more than 0 with segments',
    )
    share = isinstance(prefix, (int, float)) and not isinstance(prefix, bool)
    check_arg(
        prefix is None
        or (prefix == 'random' and segments > 1)
        or (
            share
            and 0 < prefix < 1
            and 1 <= round(prefix * segments) < segments
        ),
        'prefix',
        prefix,
        f"None, 'random', or a share of the {segments} patches or segments of "
        'an image that is at least one of them and leaves one to predict',
    )
    target = model.target_generator
    check_arg(
        not isinstance(target, SmoothedPatchTarget)
        or target.out_channels(model.backbone, None) > 1
        or not target.normalize,
        'target_generator.normalize',
        True,
        'False for patches of one value: they have no variance',
    )
    loss = getattr(model.head, 'loss_module', None)
    name = type(loss).__name__
    check_arg(
        prefix != 'random'
        or loss is None
        or 'mask' in signature(loss.forward).parameters,
        'head.loss.type',
        name,
        "a loss with an argument mask if prefix='random', such as "
        "'PixelReconstructionLoss' or 'CosineSimilarityLoss'",
    )
    own = target.loss['type']
    if loss is not None and name != own:
        print_log(
            f'model.head.loss is {name}, though that of a '
            f'{type(target).__name__} is {own}: leave head.loss out, or '
            'delete what a base config sets, if this was not meant',
            'current',
            logging.WARNING,
        )
    check_arg(
        model.teacher is None or order.looks or target.looks,
        'teacher',
        type(model.teacher).__name__,
        f'None with order={type(order).__name__} and target_generator='
        f'{type(target).__name__}: neither looks through it '
        "(order='semantic' does, and target_generator=dict("
        "type='FeatureTarget'))",
    )
    if isinstance(order, SemanticOrder):
        check_similarity(
            order.similarity,
            similarities_of(model.backbone)
            if model.teacher is None
            else model.teacher.similarities,
        )
    check_arg(
        (model.segment_size == 1 and prefix is None)
        or not getattr(model.head, 'blocks', None),
        'head.predictor',
        'transformer',
        "'linear' or 'mlp' with segments or a prefix: the blocks attend to "
        'every patch before',
    )
