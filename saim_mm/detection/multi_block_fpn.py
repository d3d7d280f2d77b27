"""The pyramid of the paper's detector."""

from __future__ import annotations

from collections.abc import Sequence

from mmdet.models import FPN
from mmengine.model import ModuleList
from mmengine.registry import MODELS
from torch import Tensor

from ..models.feature_pyramid import SCALES, rescale
from ..utils.check import check_arg
from ..utils.dtype import at_least_float32


@MODELS.register_module()
class MultiBlockFPN(FPN):
    """Li et al. 2021's pyramid: an FPN on the maps of four blocks.

    "Benchmarking Detection Transfer Learning with Vision Transformers", Sec.
    2: the maps of four equally spaced blocks, all of one scale, are rescaled
    by 4, 2, 1 and 1/2 and go into mmdet's FPN.

    Args:
        in_channels: Channels C of the backbone's maps.
        **kwargs: As for mmdet's :class:`~mmdet.models.FPN`.
    """

    def __init__(self, in_channels: int, **kwargs) -> None:
        layers, channels = zip(*(rescale(in_channels, s) for s in SCALES))
        super().__init__(in_channels=list(channels), **kwargs)
        self.rescale = ModuleList(layers)

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Build the levels.

        Args:
            inputs: Four maps of the backbone, (B, C, H, W).

        Returns:
            ``num_outs`` levels, (B, out_channels, ...),
            the first of 4 H x 4 W; float32, or float64 if the maps are.

        Raises:
            ValueError: If there are not four maps.
        """
        check_arg(
            len(inputs) == len(self.rescale),
            'backbone.out_indices',
            f'{len(inputs)} blocks',
            f'{len(self.rescale)} blocks for MultiBlockFPN',
        )
        maps = [f(x) for f, x in zip(self.rescale, inputs)]
        return at_least_float32(*super().forward(maps))  # as in the pyramid
