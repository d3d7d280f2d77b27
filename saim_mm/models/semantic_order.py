"""SemanticOrder: what an encoder finds important comes first (SemAIM)."""

from __future__ import annotations

import torch
from mmengine.registry import MODELS
from torch import Tensor

from ..utils.check import check_arg
from .orders import Order, coordinates
from .teachers import View


@MODELS.register_module(name=['SemanticOrder', 'semantic'])
class SemanticOrder(Order):
    """From the patch outwards that an encoder attends to most.

    Song et al., "Semantic-Aware Autoregressive Image Modeling for Visual
    Representation Learning" (SemAIM, AAAI 2024). The encoder looks at the
    whole image first, without gradients: the model's own, or ``model.teacher``
    if there is one. That costs a forward pass of it.

    Args:
        kind: 'attention_center', by the distance from the patch of the highest
            attention (their best); or 'attention', the highest attention
            first.
        similarity: What the attention is: 'cls' and 'gap', softmax of the
            cosine of each patch's feature to the class token's, or to the mean
            of all; 'self', the class token's in the last block, the mean of
            the heads.

    Raises:
        ValueError: If an argument is none of these.
    """

    looks = True

    def __init__(
        self, kind: str = 'attention_center', similarity: str = 'cls'
    ) -> None:
        super().__init__()
        for name, value, known in (
            ('kind', kind, ('attention_center', 'attention')),
            ('similarity', similarity, ('cls', 'gap', 'self')),
        ):
            check_arg(
                value in known,
                f'SemanticOrder.{name}',
                value,
                f'one of {list(known)}',
            )
        self.kind = kind
        self.similarity = similarity
        self.random = kind == 'attention_center'

    def see(self, images: Tensor, view: View) -> Tensor:
        return view.attention(self.similarity)  # (B, L)

    def forward(self, grid, noise, seen):
        check_arg(
            seen is not None,
            'order',
            'SemanticOrder',
            'sampled by SAIM.sample_order, which has images to look at',
        )
        if self.kind == 'attention':
            return -seen
        row, column = coordinates(grid, seen.device)
        center = seen.argmax(dim=1, keepdim=True)  # (B, 1)
        squared = (row - row[center]) ** 2 + (column - column[center]) ** 2
        # Noise settles which of those at the same distance is first.
        return torch.sqrt(squared.to(noise)) + 1e-3 * noise
