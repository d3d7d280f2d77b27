"""SAIMHead: prediction and loss."""

from __future__ import annotations

from mmengine.model import BaseModule, ModuleList
from mmengine.registry import MODELS
from mmpretrain.registry import MODELS as MMPRETRAIN_MODELS
from torch import Tensor, nn

from ..utils.check import check_arg, check_choice
from .layers import TransformerBlock, xavier_linear


@MODELS.register_module()
class SAIMHead(BaseModule):
    """Predicts the target of patches from the query stream (Eq. 6).

    Args:
        arch: Architecture of the encoder. :class:`~saim_mm.SAIM` fills it in,
            and the next.
        out_channels: Channels P of the target.
        predictor: 'mlp' (one hidden layer of 4 C channels, GELU), 'linear',
            'transformer' (two causal transformer blocks and a linear layer),
            or 'identity', the query itself, as wide as the target.
        loss: A loss of prediction and target. Defaults to None, that of the
            target; of pixels ``dict(type='PixelReconstructionLoss',
            criterion='L2')``: the mean squared error over all patches and
            pixels. ``'L1'`` is the other criterion.
        init_cfg: MMEngine's initialisation config.

    Raises:
        ValueError: If ``predictor`` or the loss is unknown.
    """

    predictors = ('linear', 'mlp', 'transformer', 'identity')

    def __init__(
        self,
        arch: dict,
        out_channels: int,
        predictor: str = 'mlp',
        loss: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        check_choice('predictor', predictor, self.predictors)
        channels = arch['embed_dims']
        self.blocks = ModuleList()
        if predictor == 'mlp':
            self.predictor = nn.Sequential(
                nn.Linear(channels, 4 * channels),
                nn.GELU(),
                nn.Linear(4 * channels, out_channels),
            )
        elif predictor == 'linear':
            self.predictor = nn.Linear(channels, out_channels)
        elif predictor == 'identity':
            check_arg(
                channels == out_channels,
                'predictor',
                predictor,
                f"'mlp' or 'linear': the encoder has {channels} channels, and "
                f'the target {out_channels}',
            )
            self.predictor = nn.Identity()
        else:
            self.blocks.extend(
                TransformerBlock(
                    channels, arch['num_heads'], arch['feedforward_channels']
                )
                for _ in range(2)
            )
            # Pre-norm blocks leave their sum un-normalised.
            self.predictor = nn.Sequential(
                nn.LayerNorm(channels, eps=1e-6),
                nn.Linear(channels, out_channels),
            )
        self.loss_module = self.build_loss(
            loss or dict(type='PixelReconstructionLoss', criterion='L2')
        )

    @staticmethod
    def build_loss(loss: dict) -> nn.Module:
        """Build the loss, naming what is known if it is not."""
        try:
            return MMPRETRAIN_MODELS.build(loss)
        except (KeyError, NotImplementedError) as error:
            raise ValueError(
                f'loss={dict(loss)}: must be dict(type='
                "'PixelReconstructionLoss', criterion='L1' or 'L2') or "
                'another registered loss of prediction and target'
            ) from error

    def init_weights(self) -> None:
        super().init_weights()
        self.predictor.apply(xavier_linear)

    def forward(self, query: Tensor) -> Tensor:
        """Predict.

        Args:
            query: Normalised query stream in the prediction order, (B, K, C).

        Returns:
            The prediction, (B, K, P).
        """
        for block in self.blocks:
            query = block(query, is_causal=True)
        return self.predictor(query)

    def loss(
        self, pred: Tensor, target: Tensor, counted: Tensor | None = None
    ) -> Tensor:
        """Compare predictions with the target (Eq. 2 and 7).

        Args:
            pred: (B, K, P).
            target: (B, K, P), in the same order.
            counted: bool, (B, K), of which the loss is the mean: the loss's
                argument ``mask``. Defaults to None, all.

        Returns:
            A scalar.
        """
        if counted is None:
            return self.loss_module(pred, target)
        return self.loss_module(pred, target, mask=counted)
