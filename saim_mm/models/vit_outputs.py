"""What a Vision Transformer returns, for once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from mmpretrain.models import VisionTransformer
from torch import Tensor

from .vit_arguments import check_layer


@contextmanager
def returning(
    vit: VisionTransformer, out_type: str, out_indices: Sequence[int]
) -> Iterator[None]:
    """Let a ViT return other outputs than it was built for.

    Args:
        vit: Of mmpretrain, or a :class:`~saim_mm.SAIMViT`.
        out_type, out_indices: As for :class:`~saim_mm.SAIMViT`.
    """
    usual = vit.out_type, vit.out_indices
    vit.out_type, vit.out_indices = out_type, list(out_indices)
    try:
        yield
    finally:
        vit.out_type, vit.out_indices = usual


def layer_output(
    vit: VisionTransformer, x: Tensor, layer: int, out_type: str
) -> Tensor:
    """One block's output of a SAIMViT, whatever its ``out_indices`` are.

    Args:
        x: (B, in_channels, H, W).
        layer: The block, from 0, or from the end with -1.
        out_type: As for the class.

    Raises:
        ValueError: As :func:`~.vit_arguments.check_layer`.
    """
    check_layer(vit, layer)
    with returning(vit, out_type, [layer % vit.num_layers]):
        return vit(x)[0]
