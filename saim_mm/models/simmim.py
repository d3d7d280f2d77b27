"""SimMIM's backbone as a ViT: the one part of a baseline mmpretrain lacks."""

from __future__ import annotations

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..utils.check import check_arg
from .vit import SAIMViT


@MODELS.register_module()
class SimMIMViT(SAIMViT):
    """The backbone of mmpretrain's ``SimMIM``, as a ViT (it has a Swin).

    Masked patches are replaced by a learned token; attention is not causal
    (Xie et al. 2022, "SimMIM: A Simple Framework for Masked Image Modeling",
    Sec. 3.2). The position embedding is fixed, as in SAIM's pre-training, and
    the checkpoint loads into :class:`SAIMViT`.

    Args:
        **kwargs: As for :class:`SAIMViT`.

    Raises:
        ValueError: As :class:`SAIMViT`.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**{'out_type': 'featmap', **kwargs})
        check_arg(
            self.with_cls_token and self.final_norm and self.whole_image,
            'backbone',
            kwargs,
            'with_cls_token=True, final_norm=True, and without window_size '
            'and use_rel_pos in pre-training',
        )
        self.mask_token = nn.Parameter(torch.zeros(1, 1, self.embed_dims))
        self.pos_embed.requires_grad = False

    def init_weights(self) -> None:
        """Initialise the token too, before ``init_cfg`` loads one."""
        if not self.is_init:
            nn.init.normal_(self.mask_token, std=0.02)
        super().init_weights()

    def forward(
        self, x: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Encode images of which patches are masked.

        Args:
            x: (B, 3, H, W).
            mask: (B, rows, columns), 1 where a patch is masked. Defaults to
                None, then none is.

        Returns:
            tuple[Tensor]: (B, C, rows, columns).
        """
        if mask is None:
            return super().forward(x)
        x, grid = self.patch_embed(x)  # (B, L, C)
        hidden = mask.flatten(1).unsqueeze(-1).bool()
        x = torch.where(hidden, self.mask_token.to(x.dtype), x)
        cls_token = self.cls_token.expand(len(x), -1, -1)
        x = torch.cat([cls_token, x], dim=1) + self.pos_embed
        for layer in self.layers:
            x = layer(x)
        return (self._format_output(self.ln1(x), grid),)
