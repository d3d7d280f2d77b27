"""Targets other than pixels: features, gradients, the next embedding."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.registry import MODELS
from mmpretrain.models.selfsup.maskfeat import HOGGenerator
from torch import Tensor, nn

from ..utils.check import check_arg, check_positive_int
from .target import Target
from .teachers import View


@MODELS.register_module()
class FeatureTarget(Target):
    """The feature of the patch in ``model.teacher`` (SemAIM).

    Without a teacher it is the feature in the model's own encoder. The default
    loss is the squared distance of both at length 1, summed over channels:
    2 - 2 cos.
    """

    looks = True
    loss: dict[str, Any] = dict(
        type='CosineSimilarityLoss', shift_factor=2.0, scale_factor=2.0
    )

    def out_channels(self, backbone, teacher):
        return (teacher or backbone).embed_dims

    def forward(
        self,
        images: Tensor,
        model: nn.Module | None = None,
        view: View | None = None,
    ) -> Tensor:
        return (view or model.look(images)).patches


@MODELS.register_module()
class InputEmbeddingTarget(Target):
    """The patch as it goes into the encoder, its position included (NEPA).

    Xu et al. 2025, "Next-Embedding Prediction Makes Strong Vision Learners":
    in raster order, with ``neck.depth=0`` and ``head.predictor='identity'``.
    The default loss is their negative cosine.
    """

    loss = dict(type='CosineSimilarityLoss')

    def out_channels(self, backbone, teacher):
        return backbone.embed_dims

    def forward(
        self,
        images: Tensor,
        model: nn.Module | None = None,
        view: View | None = None,
    ) -> Tensor:
        backbone = model.backbone
        patches = backbone.patch_embed(images)[0]  # (B, L, C)
        return patches + backbone.pos_embed[:, 1:]


@MODELS.register_module()
class HOGTarget(Target):
    """Histograms of oriented gradients, by mmpretrain's generator (MaskFeat).

    Args:
        patch_size: Side of a patch in pixels. :class:`~saim_mm.SAIM` fills it
            in.
        nbins: Orientations.
        pool: Side in pixels of the cells with a histogram of each color;
            divides ``patch_size``. Defaults to None, half a patch, or the next
            smaller divisor.

    Raises:
        ValueError: If ``nbins`` or ``pool`` is not as above, or a patch is one
            pixel.
    """

    def __init__(
        self, patch_size: int, nbins: int = 9, pool: int | None = None
    ) -> None:
        super().__init__(patch_size)
        check_arg(
            patch_size > 1,
            'backbone.patch_size',
            patch_size,
            'more than 1 with HOGTarget: a pixel has no gradient of its own',
        )
        check_positive_int('target_generator.nbins', nbins)
        if pool is None:
            halves = range(patch_size // 2, 0, -1)
            pool = next(side for side in halves if patch_size % side == 0)
        check_arg(
            isinstance(pool, int) and pool > 0 and patch_size % pool == 0,
            'target_generator.pool',
            pool,
            f'a divisor of patch_size={patch_size}',
        )
        self.nbins = nbins
        self.pool = pool
        self.generator = PatchHOG(patch_size, nbins, pool)

    def out_channels(self, backbone, teacher):
        check_arg(
            backbone.in_channels == 3,
            'backbone.in_channels',
            backbone.in_channels,
            '3 with HOGTarget',
        )
        return 3 * self.nbins * (self.patch_size // self.pool) ** 2

    def forward(
        self,
        images: Tensor,
        model: nn.Module | None = None,
        view: View | None = None,
    ) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            return self.generator.float()(images.float())


class PatchHOG(HOGGenerator):
    """mmpretrain's, which is for 14 x 14 patches, for any grid of patches."""

    def __init__(self, patch_size: int, nbins: int, pool: int) -> None:
        super().__init__(nbins, pool, gaussian_window=patch_size)
        self.patch_size = patch_size
        for name, kernel in list(self.named_buffers()):
            # Constants: no checkpoint needs them.
            self.register_buffer(name, kernel, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Compute histograms.

        Args:
            x: float32, (B, 3, H, W).

        Returns:
            (B, L, 3 * cells of a patch * bins), patches row by row.
        """
        height, width = x.shape[2:]
        if self.gaussian_kernel.shape != (height, width):
            # The parent repeats its window over squares only.
            size = self.patch_size
            window = self.gaussian_kernel[:size, :size]
            repeats = height // size, width // size
            self.gaussian_kernel = window.repeat(repeats)
            self.gaussian_window = height
        return super().forward(x)

    def _reshape(self, hog_feat: Tensor) -> Tensor:
        """(B, 3, bins, rows, columns of cells) -> (B, L, 3 * bins * cells)."""
        cells = self.patch_size // self.pool  # a side
        x = hog_feat.flatten(1, 2).permute(0, 2, 3, 1)
        x = x.unfold(1, cells, cells).unfold(2, cells, cells)
        return x.flatten(1, 2).flatten(2)
