"""PixelPreprocessor: batches to the device, without a wait for it."""

from __future__ import annotations

from mmengine.registry import MODELS
from mmpretrain.models.utils import SelfSupDataPreprocessor
from torch import Tensor

from .batch_crop import BatchRandomResizedCrop


@MODELS.register_module()
class PixelPreprocessor(SelfSupDataPreprocessor):
    """mmpretrain's ``SelfSupDataPreprocessor``, in the stream of the GPU.

    The same numbers. But images in pinned memory (``pin_memory`` of the
    loader) are copied while the host goes on, and their channels are reversed
    without an index that the host would copy to the GPU.

    Args:
        random_crop: For images that no pipeline has cropped, those of
            :class:`~saim_mm.ImagesInMemory`: ``crop_ratio_range`` and
            ``aspect_ratio_range``, as of mmpretrain's ``RandomResizedCrop``,
            and ``flip_prob`` (0.5); the boxes are resized to the images' own
            size. Defaults to None, no crop.
        **kwargs: As for mmpretrain's; ``non_blocking`` is True.

    Raises:
        ValueError: If a range or a probability of ``random_crop`` is none.
    """

    def __init__(
        self,
        *args,
        non_blocking: bool = True,
        random_crop: dict | None = None,
        **kwargs,
    ) -> None:
        super().__init__(*args, non_blocking=non_blocking, **kwargs)
        self.random_crop = (
            None
            if random_crop is None
            else BatchRandomResizedCrop(**random_crop)
        )
        self.reverse_channels = self._channel_conversion
        self._channel_conversion = False  # of the parent

    def forward(self, data: dict, training: bool = False) -> dict:
        """Copy, crop and normalise.

        Args:
            data: ``inputs``, (B, 3, H, W) or a list of such, uint8, and
                ``data_samples``.
            training: Whether to crop.

        Returns:
            The same on the device, normalised, float32.
        """
        inputs = self.cast_data(data['inputs'])
        inputs = (
            self.prepare(inputs, training)
            if isinstance(inputs, Tensor)
            else [self.prepare(views, training) for views in inputs]
        )
        return super().forward({**data, 'inputs': inputs}, training)

    def prepare(self, images: Tensor, training: bool) -> Tensor:
        """Reverse the channels of (B, 3, H, W), and crop."""
        if self.reverse_channels:
            images = images.flip(1)
        if training and self.random_crop is not None:
            images = self.random_crop(images)
        return images
