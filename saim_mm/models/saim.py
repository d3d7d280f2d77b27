"""SAIM: Stochastic Autoregressive Image Modeling (AAAI 2023)."""

from typing import Optional, Union

from mmengine.dist import get_dist_info
from mmengine.registry import MODELS
from mmpretrain.models import BaseSelfSupervisor
from mmpretrain.registry import MODELS as MMPRETRAIN_MODELS
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from ..utils.check import check_arg
from .order import PredictionOrder


@MODELS.register_module()
class SAIM(BaseSelfSupervisor):
    """Predict each patch of an image from the patches before it in an order.

    ``images -> backbone (content stream) -> neck (query stream) -> head <-
    target_generator <- images`` (Fig. 1).

    What follows from the backbone is filled in: ``arch`` of neck and head,
    ``patch_size`` of head and target generator, ``in_channels`` of the head.

    Args:
        backbone (dict): :class:`SAIMViT`, with class token and final norm.
        neck (dict): :class:`SAIMDecoder`.
        head (dict): :class:`SAIMHead`.
        target_generator (dict): :class:`SmoothedPatchTarget`.
        order (str): 'stochastic', a new permutation for every image and step,
            or 'raster'. Defaults to 'stochastic'.
        segment_size (int): Side, in patches, of the squares that are put in
            order and predicted whole (RandSAC). Defaults to 1: SAIM.
        predict_ratio (float): Share of the patches that are predicted, the
            last ones of the order: those before are context alone, so the
            decoder has less to do (XLNet's partial prediction, Yang et al.
            2019, Sec. 2.3). Defaults to 1.
        pretrained (str, optional): Checkpoint to start from.
        data_preprocessor (dict | nn.Module, optional): Defaults to None,
            mmpretrain's ``SelfSupDataPreprocessor``.
        init_cfg (dict, optional): MMEngine's initialisation config.

    Raises:
        ValueError: If ``order`` is unknown, or the parts do not allow it.
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        head: dict,
        target_generator: dict,
        order: str = 'stochastic',
        segment_size: int = 1,
        predict_ratio: float = 1.0,
        pretrained: Optional[str] = None,
        data_preprocessor: Optional[Union[dict, nn.Module]] = None,
        init_cfg: Optional[dict] = None,
    ) -> None:
        check_arg(
            order in PredictionOrder.names,
            'order',
            order,
            f'one of {list(PredictionOrder.names)}',
        )
        backbone = MMPRETRAIN_MODELS.build(backbone)
        check_arg(
            backbone.with_cls_token,
            'backbone.with_cls_token',
            False,
            'True in pre-training: the first patch of an order is predicted '
            'from the class token alone',
        )
        check_arg(
            backbone.final_norm,
            'backbone.final_norm',
            False,
            'True in pre-training: it is the norm before the head',
        )
        arch = dict(arch=backbone.arch_settings)
        patch = dict(patch_size=backbone.patch_size)
        super().__init__(
            backbone=backbone,
            neck={**arch, **neck},
            head={
                **arch,
                **patch,
                'in_channels': backbone.in_channels,
                **head,
            },
            target_generator={**patch, **target_generator},
            pretrained=pretrained,
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
        )
        check_arg(
            self.neck.depth > 0 or order == 'raster',
            'order',
            order,
            "'raster' if neck.depth=0: without a decoder nothing tells the "
            'encoder which patch comes next',
        )
        check_arg(
            self.neck.depth > 0 or segment_size == predict_ratio == 1,
            'neck.depth',
            0,
            'more than 0 with segments, or if a part is predicted',
        )
        check_arg(
            isinstance(predict_ratio, (int, float)) and 0 < predict_ratio <= 1,
            'predict_ratio',
            predict_ratio,
            'a share of the patches, more than 0 and at most 1',
        )
        check_arg(
            segment_size == predict_ratio == 1
            or not getattr(self.head, 'blocks', None),
            'head.predictor',
            'transformer',
            "'linear' or 'mlp' with segments, or if a part is predicted: the "
            'blocks attend to every patch before',
        )
        self.order = order
        self.segment_size = segment_size
        self.predict_ratio = predict_ratio
        PredictionOrder.partition_grid(
            backbone.patch_resolution, segment_size
        )  # if it fits
        # Fixed in pre-training; downstream it is trained.
        self.backbone.pos_embed.requires_grad = False

    def sample_order(self, images: Tensor) -> PredictionOrder:
        """Sample the order in which each image's patches are predicted.

        In distributed training each process draws for all, and takes those of
        its own images: image j of process r is number j * processes + r. With
        the same seed everywhere (:class:`~saim_mm.StepSeedHook`) the orders do
        not depend on the number of processes.

        Args:
            images (Tensor): (B, 3, H, W).

        Returns:
            PredictionOrder: Of B images.
        """
        rank, processes = get_dist_info()
        order = PredictionOrder.sample(
            self.order,
            len(images) * processes,
            self.backbone.patch_resolution,
            images.device,
            self.segment_size,
        )
        return PredictionOrder(
            order.indices[rank::processes], order.segment_length
        )

    def predict_patches(
        self, images: Tensor, order: PredictionOrder
    ) -> Tensor:
        """Predict every patch from those before it.

        Args:
            images (Tensor): (B, 3, H, W), normalised.
            order (PredictionOrder): The order of the patches.

        Returns:
            Tensor: (B, K, P), in the prediction order, of the order's last K
            patches: all L, unless it says otherwise.
        """
        hidden, positions = self.backbone(images, order)
        query = self.neck(
            hidden,
            order.select_predicted(positions),
            self.backbone.layers,
            order.query_mask(),
        )
        return self.head(self.backbone.norm1(query))

    def loss(
        self,
        inputs: Tensor,
        data_samples: Optional[list[DataSample]] = None,
        order: Optional[PredictionOrder] = None,
    ) -> dict[str, Tensor]:
        """Compute the loss of a batch.

        Args:
            inputs (Tensor): (B, 3, H, W), normalised.
            data_samples (list, optional): Not used.
            order (PredictionOrder, optional): Defaults to None, a new one.

        Returns:
            dict[str, Tensor]: The scalar ``loss``.
        """
        order = order or self.sample_order(inputs)
        return dict(loss=self.compute_loss(inputs, order))

    def compute_loss(self, images: Tensor, order: PredictionOrder) -> Tensor:
        """Everything between images and loss; nothing in it is random.

        (What torch.compile compiles, see :class:`SAIMRunner`. The order is
        drawn outside of it, so a seed gives the same orders with and without.)

        Args:
            images (Tensor): (B, 3, H, W), normalised.
            order (PredictionOrder): The order of the patches.

        Returns:
            Tensor: The loss, a scalar.
        """
        order = order.with_predict_ratio(self.predict_ratio)
        pred = self.predict_patches(images, order)
        target = order.select_predicted(
            order.sort(self.target_generator(images))
        )
        return self.head.loss(pred, target)


def is_pretraining(cfg: dict) -> bool:
    """Whether a config's model is a SAIM, or of a class made of it.

    Args:
        cfg (dict): A whole config.

    Returns:
        bool: Also False for models of toolboxes that are not loaded.
    """
    model = MMPRETRAIN_MODELS.get(cfg['model']['type'])
    return isinstance(model, type) and issubclass(model, SAIM)
