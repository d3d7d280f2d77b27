"""How many dimensions features use: a measure that needs no labels."""

from __future__ import annotations

import torch
from torch import Tensor


def rank_me(features: Tensor) -> float:
    """RankMe (Garrido et al. 2023): the smooth rank of a matrix of features.

    exp of the entropy of the singular values, divided by their sum. (Without
    the paper's 1e-7, which float32 needs: this is float64.)

    Args:
        features: (N, C), an image each.

    Returns:
        From 1, all features are multiples of one, to min(N, C).
    """
    values = torch.linalg.svdvals(features.double())
    shares = values / values.sum()
    return torch.special.entr(shares).sum().exp().item()
