"""Pyramids of feature maps from a ViT's maps, which have one scale."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule, ModuleList
from mmengine.registry import MODELS
from mmpretrain.models.utils import LayerNorm2d
from torch import Tensor, nn

from ..utils.check import check_arg
from ..utils.dtype import at_least_float32

SCALES = (4, 2, 1, 0.5)


def rescale(channels: int, scale: float) -> tuple[nn.Sequential, int]:
    """Layers that change the scale of a map, as ViTDet's (Sec. 3).

    Args:
        channels: Of the map.
        scale: 4, 2, 1 or 0.5.

    Returns:
        The layers, and the channels of what they return.
    """
    if scale == 4:
        return nn.Sequential(
            nn.ConvTranspose2d(channels, channels // 2, 2, stride=2),
            LayerNorm2d(channels // 2, eps=1e-6),
            nn.GELU(),
            nn.ConvTranspose2d(channels // 2, channels // 4, 2, stride=2),
        ), channels // 4
    if scale == 2:
        return nn.Sequential(
            nn.ConvTranspose2d(channels, channels // 2, 2, stride=2)
        ), channels // 2
    if scale == 1:
        return nn.Sequential(), channels
    return nn.Sequential(nn.MaxPool2d(2, stride=2, ceil_mode=True)), channels


@MODELS.register_module()
class SimpleFeaturePyramid(BaseModule):
    """ViTDet's pyramid: every level from the backbone's last map (Sec. 3).

    Each level is the map rescaled, then a 1 x 1 and a 3 x 3 convolution, each
    with LayerNorm. A last level halves the one before by subsampling. For
    patches of p pixels the strides are p times 1/4, 1/2, 1, 2 and 4.

    Args:
        in_channels: Channels C of the backbone's map.
        out_channels: Channels of every level.
        scales: Scales of the levels: 4, 2, 1, 0.5 or some of them. Defaults to
            all.
        init_cfg: MMEngine's initialisation config.

    Raises:
        ValueError: If a scale is another.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 256,
        scales: Sequence[float] = SCALES,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        check_arg(
            len(scales) > 0 and set(scales) <= set(SCALES),
            'scales',
            scales,
            f'some of {SCALES}',
        )
        self.levels = ModuleList()
        for scale in scales:
            layers, channels = rescale(in_channels, scale)
            layers.append(nn.Conv2d(channels, out_channels, 1, bias=False))
            layers.append(LayerNorm2d(out_channels, eps=1e-6))
            layers.append(
                nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
            )
            layers.append(LayerNorm2d(out_channels, eps=1e-6))
            self.levels.append(layers)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Build the levels.

        Args:
            maps: The backbone's; the last is used, (B, C, H, W).

        Returns:
            (B, out_channels, scale * H, scale * W) for
            each scale, then one of half the size of the last; float32, or
            float64 if the maps are.
        """
        levels = [level(maps[-1]) for level in self.levels]
        levels.append(F.max_pool2d(levels[-1], 1, stride=2))
        # mmdet casts coordinates to their dtype; bfloat16 would round one of
        # 1,000 pixels by up to 4.
        return at_least_float32(*levels)
