"""What a frozen encoder knows: nothing of it is trained."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from saim_mm.evaluation.knn import vote
from saim_mm.models.vit_arguments import layer_output

#: What `evaluate` returns, in this order.
READOUTS = ('knn', 'knn-mean')


@torch.no_grad()
def evaluate(
    backbone: nn.Module,
    data: tuple[
        Iterable[tuple[Tensor, Tensor]], Iterable[tuple[Tensor, Tensor]]
    ],
) -> dict[str, float]:
    """Top-1 accuracy by each readout.

    Args:
        backbone (SAIMViT): In evaluation mode.
        data (tuple): Training and test set, each as batches of normalized
            images (B, 3, H, W) and labels (B,), once and without augmentation.

    Returns:
        dict[str, float]: Name of :data:`READOUTS` -> per cent.
    """
    (known, labels), (queries, truth) = (cache(backbone, x) for x in data)
    classes = int(max(labels.max(), truth.max())) + 1
    k = min(20, len(labels))
    found = {}
    for name, features in known.items():
        scores = vote(queries[name], features, labels, classes, k, 0.07)
        right = (scores.argmax(dim=1) == truth).float().mean()
        found[name] = 100 * right.item()
    return found


def cache(
    backbone: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]
) -> tuple[dict[str, Tensor], Tensor]:
    """Features (N, C) for each readout, and labels (N,)."""
    cls_token, mean, labels = [], [], []
    for images, truth in batches:
        tokens = layer_output(backbone, images, -1, 'raw').float()
        patches = tokens[:, backbone.num_extra_tokens :]
        cls_token.append(tokens[:, 0])
        mean.append(patches.mean(dim=1))
        labels.append(truth.to(tokens.device))
    features = {'knn': torch.cat(cls_token), 'knn-mean': torch.cat(mean)}
    return features, torch.cat(labels)
