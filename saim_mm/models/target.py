"""What the predictions are compared with: SAIM's pixels, and the base."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..utils.check import check_arg
from .teachers import View
from .vit import SAIMViT


class Target(BaseModule):
    """What is predicted for each patch; nothing in it is trained.

    A target of one's own is a subclass, registered in MMEngine's ``MODELS``.

    Args:
        patch_size: Side of a patch in pixels. :class:`~saim_mm.SAIM` fills it
            in.
    """

    #: Whether :meth:`forward` needs a view of the images (see ``SAIM.look``).
    looks = False
    #: The loss that ``model.head.loss`` is if it is not set.
    loss = dict(type='PixelReconstructionLoss', criterion='L2')

    def __init__(self, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size

    @torch.no_grad()
    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        return super().__call__(*args, **kwargs)

    def out_channels(
        self, backbone: SAIMViT, teacher: nn.Module | None
    ) -> int:
        """Channels of the target, and so of the prediction.

        Args:
            backbone: The model's encoder.
            teacher: The model's teacher.

        Returns:
            Those of pixels, unless a subclass says otherwise.
        """
        return self.patch_size**2 * backbone.in_channels

    def forward(
        self,
        images: Tensor,
        model: nn.Module | None = None,
        view: View | None = None,
    ) -> Tensor:
        """Compute the target; called without gradients.

        Args:
            images: (B, C, H, W), normalised as for the backbone.
            model: The model. Pixels need none.
            view: What its teacher, or its encoder, sees of the images, if that
                is known already.

        Returns:
            (B, L, :meth:`out_channels`), patches in raster order.
        """
        raise NotImplementedError


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """Cut images into patches.

    Args:
        images: (B, C, H, W), H and W multiples of ``patch_size`` p.
        patch_size: Side of a patch in pixels.

    Returns:
        (B, L, p * p * C), patches in raster order, pixels ordered by
        row in the patch, column in the patch, channel.
    """
    b, c, h, w = images.shape
    p = patch_size
    x = images.reshape(b, c, h // p, p, w // p, p)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(b, -1, p * p * c)


def unpatchify(
    patches: Tensor, patch_size: int, grid: tuple[int, int]
) -> Tensor:
    """Put patches together; the inverse of :func:`patchify`.

    Args:
        patches: (B, L, p * p * C).
        patch_size: Side p of a patch in pixels.
        grid: Rows and columns of patches.

    Returns:
        (B, C, H, W).
    """
    p, (rows, columns) = patch_size, grid
    x = patches.unflatten(-1, (p, p, -1)).unflatten(1, (rows, columns))
    return x.permute(0, 5, 1, 3, 2, 4).reshape(
        len(patches), -1, rows * p, columns * p
    )


@MODELS.register_module()
class SmoothedPatchTarget(Target):
    """Target of SAIM (Eq. 7): Gaussian blur, patches, normalisation.

    Args:
        patch_size: Side of a patch in pixels. :class:`~saim_mm.SAIM` fills it
            in.
        kernel_size: Side of the Gaussian kernel in pixels, an odd number. None
            for no blur.
        sigma: Standard deviation of the Gaussian in pixels, positive.
        normalize: Whether each patch is normalised by the mean and the
            unbiased variance of its own pixels.

    Raises:
        ValueError: If ``kernel_size`` or ``sigma`` is not as above.
    """

    def __init__(
        self,
        patch_size: int,
        kernel_size: int | None = 9,
        sigma: float = 1.0,
        normalize: bool = True,
    ) -> None:
        super().__init__(patch_size)
        self.normalize = normalize
        kernel = None
        if kernel_size is not None:
            check_arg(
                isinstance(kernel_size, int)
                and kernel_size > 0
                and kernel_size % 2 == 1,
                'kernel_size',
                kernel_size,
                'an odd positive integer, or None for no blur',
            )
            check_arg(
                isinstance(sigma, (int, float)) and sigma > 0,
                'sigma',
                sigma,
                'positive (pixels); for no blur set kernel_size=None',
            )
            offset = torch.arange(kernel_size) - kernel_size // 2
            kernel = torch.exp(-(offset.double() ** 2) / (2 * sigma**2))
            kernel = (kernel / kernel.sum()).to(torch.get_default_dtype())
        # One axis of the Gaussian: in 2-D it is the outer product of two.
        self.register_buffer('kernel', kernel, persistent=False)

    def blur(self, images: Tensor) -> Tensor:
        """Smooth images, with zeros beyond their borders.

        Args:
            images: (B, C, H, W).

        Returns:
            (B, C, H, W).
        """
        if self.kernel is None:
            return images
        rows, columns = (
            band(self.kernel.to(images.dtype), n) for n in images.shape[-2:]
        )
        return rows @ images @ columns.T

    @staticmethod
    def statistics(patches: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation that a patch is normalised with.

        Args:
            patches: (B, L, P).

        Returns:
            (B, L, 1) each.
        """
        mean = patches.mean(dim=-1, keepdim=True)
        # Unbiased. (Tensor.var takes ten times as long on CPUs.)
        var = (patches - mean).square().sum(dim=-1, keepdim=True)
        var = var / (patches.shape[-1] - 1)
        return mean, (var + 1e-6).sqrt()

    def forward(
        self,
        images: Tensor,
        model: nn.Module | None = None,
        view: View | None = None,
    ) -> Tensor:
        # Autocast would blur in half precision.
        with torch.autocast(images.device.type, enabled=False):
            patches = patchify(self.blur(images), self.patch_size)  # (B, L, P)
            if self.normalize:
                mean, std = self.statistics(patches)
                patches = (patches - mean) / std
        return patches


def band(kernel: Tensor, size: int) -> Tensor:
    """Convolution of an axis, with zeros beyond its ends, as a matrix.

    Args:
        kernel: (k,), k odd.
        size: Pixels of the axis.

    Returns:
        (size, size), at (i, j) what pixel j adds to pixel i.
    """
    position = torch.arange(size, device=kernel.device)
    offset = position - position.unsqueeze(1) + len(kernel) // 2
    inside = (offset >= 0) & (offset < len(kernel))
    return kernel[offset.clamp(0, len(kernel) - 1)] * inside


def pixel_target(model: nn.Module) -> SmoothedPatchTarget:
    """The target generator of a model that predicts pixels.

    Raises:
        ValueError: If it predicts something else, of which there is no
            picture.
    """
    target = model.target_generator
    check_arg(
        isinstance(target, SmoothedPatchTarget),
        'model.target_generator',
        type(target).__name__,
        'SmoothedPatchTarget to draw predictions: others are no pixels',
    )
    return target
