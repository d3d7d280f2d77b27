"""The probe of dense features."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.registry import MODELS
from mmseg.models import FCNHead


@MODELS.register_module()
class LinearSegHead(FCNHead):
    """One linear layer on the maps of some blocks, concatenated.

    What a frozen backbone knows of every patch: no convolution, no dropout,
    nothing but the classifier is trained.

    Args:
        in_channels: Channels of each map, or of the only one. Other maps than
            the first have its size after bilinear interpolation.
        num_classes: Number of classes.
        **kwargs: Other arguments of mmseg's ``BaseDecodeHead``, such as
            ``in_index`` (defaults to all maps, in turn) or ``loss_decode``.
    """

    def __init__(
        self, in_channels: int | Sequence[int], num_classes: int, **kwargs
    ) -> None:
        if isinstance(in_channels, int):
            in_channels = [in_channels]
        super().__init__(
            num_convs=0,
            concat_input=False,
            in_channels=list(in_channels),
            channels=sum(in_channels),
            num_classes=num_classes,
            **{
                'in_index': list(range(len(in_channels))),
                'input_transform': 'resize_concat',
                'dropout_ratio': 0.0,
                **kwargs,
            },
        )
