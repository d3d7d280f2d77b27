"""SAIM: Stochastic Autoregressive Image Modeling (AAAI 2023)."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.dist import get_dist_info
from mmengine.logging import print_log
from mmengine.registry import MODELS
from mmpretrain.models import BaseSelfSupervisor
from mmpretrain.registry import MODELS as MMPRETRAIN_MODELS
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from ..utils.check import check_shape
from .order import PredictionOrder
from .orders import build_order
from .saim_arguments import (
    build_target,
    build_teacher,
    check_backbone,
    check_fit,
)
from .teachers import MovingAverageTeacher, View, look
from .vit_arguments import check_causal
from .vit_state_dict import configs_of, is_pretrained


@MODELS.register_module()
class SAIM(BaseSelfSupervisor):
    """Predict each patch of an image from the patches before it in an order.

    ``images -> backbone (content stream) -> neck (query stream) -> head <-
    target_generator <- images`` (Fig. 1).

    What follows from the backbone is filled in: ``arch`` of neck and head,
    ``patch_size`` of the target generator; and what follows from the target:
    ``out_channels`` of the head, and ``loss`` if it has none.

    Args:
        backbone: :class:`SAIMViT`, with class token and final norm.
        neck: :class:`SAIMDecoder`.
        head: :class:`SAIMHead`.
        target_generator: :class:`SmoothedPatchTarget`, :class:`FeatureTarget`,
            :class:`HOGTarget`, :class:`InputEmbeddingTarget`, or one of your
            own.
        order: 'stochastic', a new permutation for every image and step;
            'raster', 'snake', 'spiral', 'center_out', 'checkerboard';
            :class:`SemanticOrder` (SemAIM); or one of your own.
        segment_size: Side, in patches, of the squares that are put in order
            and predicted whole (RandSAC). Defaults to 1: SAIM.
        prefix: Share of the patches, the first of the order, that see each
            other and are not predicted; or 'random', a number of them drawn
            for every image and step (AIM's prefix attention, El-Nouby et al.
            2024). Defaults to None, no prefix.
        teacher: What looks at the images for an order or a target that needs
            it: :class:`MovingAverageTeacher` or :class:`FrozenTeacher`.
            Defaults to None, the encoder itself.
        pretrained: Checkpoint to start from.
        data_preprocessor: Defaults to None, mmpretrain's
            ``SelfSupDataPreprocessor``.
        init_cfg: MMEngine's initialisation config.

    Raises:
        ValueError: If an argument is not as above, or the parts do not fit
            each other.
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        head: dict,
        target_generator: dict,
        order: str | dict = 'stochastic',
        segment_size: int = 1,
        prefix: float | str | None = None,
        teacher: dict | None = None,
        pretrained: str | None = None,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        order = build_order(order)
        backbone = MMPRETRAIN_MODELS.build(backbone)
        check_backbone(backbone)
        if teacher is not None:
            teacher = build_teacher(teacher, backbone)
        target = build_target(target_generator, backbone.patch_size)
        arch = dict(arch=backbone.arch_settings)
        channels = dict(out_channels=target.out_channels(backbone, teacher))
        super().__init__(
            backbone=backbone,
            neck={**arch, **neck},
            head={
                **arch,
                **channels,
                **head,
                'loss': head.get('loss') or target.loss,
            },
            target_generator=target,
            pretrained=pretrained,
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
        )
        self.order = order
        self.segment_size = segment_size
        self.prefix = prefix
        self.teacher = teacher
        self.order_checked = False
        check_fit(self)
        # Fixed in pre-training; downstream it is trained.
        self.backbone.pos_embed.requires_grad = False
        self._register_load_state_dict_pre_hook(
            start_teacher, with_module=True
        )

    def loss(
        self,
        inputs: Tensor,
        data_samples: list[DataSample] | None = None,
        order: PredictionOrder | None = None,
    ) -> dict[str, Tensor]:
        """Compute the loss of a batch.

        Args:
            inputs: (B, C, H, W), normalised.
            data_samples: What the loader says of them; nothing is read.
            order: None: a new one, with a prefix if ``prefix`` is set.

        Returns:
            ``loss``, the mean over what is predicted, float32.
        """
        if self.training and isinstance(self.teacher, MovingAverageTeacher):
            self.teacher.check_updated(self.backbone)
        view = target = None
        if self.order.looks or self.target_generator.looks:
            view = self.look(inputs)
        if order is None:
            order = self.sample_prefix(self.sample_order(inputs, view))
        if not self.order_checked:  # waits for the GPU: once
            rows, columns = self.backbone.patch_resolution
            order.check(rows * columns)
            self.order_checked = True
        if self.target_generator.looks:
            target = self.target_generator(inputs, self, view)  # (B, L, P)
        return dict(loss=self.compute_loss(inputs, order, target))

    def compute_loss(
        self,
        images: Tensor,
        order: PredictionOrder,
        target: Tensor | None = None,
    ) -> Tensor:
        """Everything between images and loss; nothing in it is random.

        (The order is drawn outside of it.)

        Args:
            images: (B, C, H, W), normalised.
            order: The order of the patches.
            target: (B, L, P), in raster order. Defaults to None, the target
                generator's.

        Returns:
            The loss, a scalar.
        """
        pred = self.predict_patches(images, order)  # (B, K, P)
        if target is None:
            target = self.target_generator(images, self)  # (B, L, P)
        check_shape(
            f'target_generator={type(self.target_generator).__name__}',
            target,
            (*order.indices.shape, pred.shape[-1]),
            meaning='(images, patches, channels); the last is what its '
            'out_channels says, unless model.head.out_channels does',
        )
        target = order.select_predicted(order.sort(target))  # (B, K, P)
        return self.head.loss(pred, target, order.counted())

    def predict_patches(
        self, images: Tensor, order: PredictionOrder
    ) -> Tensor:
        """Predict every patch from those before it.

        Images are (B, C, H, W), normalised; predictions (B, K, P), in the
        prediction order, of the order's last K patches: all L, unless it has
        a prefix.
        """
        # N outputs (B, T, C) of T = L + 1 - n tokens, and (B, L, C)
        hidden, positions = self.backbone(images, order)
        query = self.neck(
            hidden,
            order.select_predicted(positions),
            self.backbone.layers,
            order.query_mask(),
        )  # (B, K, C)
        return self.head(self.backbone.ln1(query))  # (B, K, P)

    def look(self, images: Tensor) -> View:
        """What the teacher, or else the encoder, sees of whole images.

        Images are (B, C, H, W), features (B, L, C), without gradients.
        """
        check_causal(self.backbone, images)
        if self.teacher is None:
            return look(self.backbone, images)
        return self.teacher(images)

    def sample_order(
        self,
        images: Tensor,
        view: View | None = None,
        generator: torch.Generator | None = None,
    ) -> PredictionOrder:
        """Sample the order in which each image's patches are predicted.

        Args:
            images: (B, C, H, W), normalised.
            view: What :meth:`look` sees of them. Defaults to None: the order
                looks itself, if it needs to.
            generator: As for :meth:`Order.sample`.

        Returns:
            Of B images; without a prefix.
        """
        if view is None and self.order.looks:
            view = self.look(images)
        return self.order.sample(
            len(images),
            self.backbone.patch_resolution,
            images.device,
            self.segment_size,
            self.order.see(images, view),
            generator,
        )

    def sample_prefix(self, order: PredictionOrder) -> PredictionOrder:
        """Give an order the prefix that training asks for.

        In distributed training random ones are drawn as orders are.
        """
        if self.prefix is None:
            return order
        (batch_size, length), size = order.indices.shape, order.segment_length
        segments = length // size
        if self.prefix != 'random':
            return order.with_prefix(round(self.prefix * segments) * size)
        rank, processes = get_dist_info()
        number = torch.randint(
            1,
            segments,  # itself excluded: something is left to predict
            (batch_size * processes,),
            device=order.indices.device,
        )
        return order.with_prefix(number[rank::processes] * size)  # (B,)

    def init_weights(self) -> None:
        super().init_weights()
        # (Weights of the whole model have started it: `start_teacher`.)
        if isinstance(self.teacher, MovingAverageTeacher) and not any(
            map(is_pretrained, configs_of(self.init_cfg))
        ):
            self.teacher.start(self.backbone)


def start_teacher(
    model: nn.Module, state_dict: dict, prefix: str, *args: Any
) -> None:
    """Let a checkpoint without moving average start it as its encoder."""
    mine, theirs = f'{prefix}teacher.', f'{prefix}backbone.'
    if not isinstance(model.teacher, MovingAverageTeacher) or any(
        name.startswith(mine) for name in state_dict
    ):
        return
    print_log(
        'The checkpoint has no moving average of the encoder: it starts as '
        'the encoder is there',
        'current',
    )
    for name in [name for name in state_dict if name.startswith(theirs)]:
        copy = f'{mine}encoder.{name.removeprefix(theirs)}'
        state_dict[copy] = state_dict[name]


def is_pretraining(cfg: dict) -> bool:
    """Whether a config's model is a SAIM, or of a class made of it.

    Args:
        cfg: A whole config.

    Returns:
        Also False for models of toolboxes that are not loaded.
    """
    model = cfg['model']['type']
    if isinstance(model, str):
        model = MMPRETRAIN_MODELS.get(model)
    return isinstance(model, type) and issubclass(model, SAIM)
