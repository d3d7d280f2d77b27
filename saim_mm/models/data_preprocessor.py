"""PixelPreprocessor: batches to the device, without a wait for it."""

from __future__ import annotations

from mmengine.registry import MODELS
from mmpretrain.models.utils import SelfSupDataPreprocessor
from torch import Tensor


@MODELS.register_module()
class PixelPreprocessor(SelfSupDataPreprocessor):
    """mmpretrain's ``SelfSupDataPreprocessor``, in the stream of the GPU.

    The same numbers. But images in pinned memory (``pin_memory`` of the
    loader) are copied while the host goes on, and their channels are reversed
    without an index that the host would copy to the GPU.

    Args:
        batch_augments: What is done to a batch of images in training:
            :class:`BatchRandomResizedCrop`. Defaults to None, nothing.
        **kwargs: As for mmpretrain's; ``non_blocking`` is True.
    """

    def __init__(
        self,
        *args,
        non_blocking: bool = True,
        batch_augments: dict | None = None,
        **kwargs,
    ) -> None:
        super().__init__(*args, non_blocking=non_blocking, **kwargs)
        self.batch_augments = (
            None if batch_augments is None else MODELS.build(batch_augments)
        )
        self.reverse_channels = self._channel_conversion
        self._channel_conversion = False  # of the parent

    def forward(self, data: dict, training: bool = False) -> dict:
        """Copy, augment and normalise.

        Args:
            data: ``inputs``, (B, 3, H, W) or a list of such, uint8, and
                ``data_samples``.
            training: Whether to augment.

        Returns:
            The same on the device, normalised, float32.
        """
        inputs = self.cast_data(data['inputs'])
        if self.reverse_channels:
            inputs = (
                inputs.flip(1)
                if isinstance(inputs, Tensor)
                else [views.flip(1) for views in inputs]
            )
        if training and self.batch_augments is not None:
            inputs = (
                self.batch_augments(inputs)
                if isinstance(inputs, Tensor)
                else [self.batch_augments(views) for views in inputs]
            )
        return super().forward({**data, 'inputs': inputs}, training)
