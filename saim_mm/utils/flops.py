"""Counting floating-point operations."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def count_flops(compute_loss: Callable[[], Tensor]) -> tuple[int, int]:
    """FLOPs of a function and of it with its backward.

    A multiplication and an addition are two. What causal attention does not
    need is counted, which is 2 % for ViT-B/16 at 224 pixels.

    Returns:
        Forward alone, and both.
    """
    counter = FlopCounterMode(display=False)
    # The counter knows nothing of PyTorch's fused attention for CPUs.
    with sdpa_kernel(SDPBackend.MATH), counter:
        loss = compute_loss()
        forward = counter.get_total_flops()
        loss.backward()
    return forward, counter.get_total_flops()
