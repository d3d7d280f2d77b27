"""SAIMViT: the backbone of pre-training and of every downstream task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmcv.cnn.bricks.transformer import PatchEmbed
from mmengine.model import ModuleList
from mmengine.registry import MODELS
from mmpretrain.models import VisionTransformer
from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor, nn

from .layers import TransformerBlock
from .order import PredictionOrder
from .position_embedding import initial_pos_embed
from .vit_arguments import (
    check_causal,
    check_frozen_stages,
    check_out_type,
    parse_arch,
    parse_img_size,
    parse_out_indices,
    parse_windows,
)
from .vit_state_dict import (
    apply_init_cfg,
    configs_of,
    is_pretrained,
    register_state_dict_hooks,
)


@MODELS.register_module()
class SAIMViT(VisionTransformer):
    """Plain Vision Transformer that can also run causally in an order.

    Without an order it is mmpretrain's
    :class:`~mmpretrain.models.VisionTransformer`, with the same parameter
    names, outputs, weight loading and layer depths, for classification and
    dense tasks. With an order it is the encoder of SAIM (Eq. 4): patches are
    put in the order and every block attends causally.

    It starts from the paper's initialisation: Xavier-uniform weights and a
    2-D sine-cosine position embedding. Pre-training keeps that embedding
    fixed (:class:`~saim_mm.SAIM` freezes it); downstream it is trained.

    Args:
        arch: A name of mmpretrain's ('base', 'large', 'deit-small', ...),
            'saim-mini' or 'saim-192x4' (4 blocks of 96 or 192 channels, for
            CPUs), or a dict of ``embed_dims``, ``num_layers``, ``num_heads``
            and ``feedforward_channels``.
        img_size: Height and width in pixels, multiples of ``patch_size``.
        patch_size: Side of a patch in pixels.
        in_channels: Channels of the image.
        out_indices: Blocks whose output is returned.
        drop_path_rate: Stochastic depth of the last block, of the first 0.
        qkv_bias: Whether queries, keys and values have a bias.
        final_norm: Whether a LayerNorm follows the last block. In pre-training
            it is the one before the prediction head, as in the authors' code,
            so a checkpoint brings it along.
        out_type: 'cls_token' (B, C), 'featmap' (B, C, rows, columns),
            'avg_featmap' (B, C) or 'raw' (B, L + 1, C).
        with_cls_token: Whether there is a class token. Pre-training needs one:
            it is all that the first patch is predicted from.
        frozen_stages: How many blocks, with what is before them, are not
            trained; 0 or -1: everything is.
        interpolate_mode: How the position embedding is resized.
        with_cp: Whether the backward pass computes each block again rather
            than keep its activations: less memory, a quarter more time.
        window_size: Side, in patches, of the windows that attend within
            themselves, in all blocks but ``global_attn_indexes`` (ViTDet: 14).
            Needs ``with_cls_token=False``. 0: no windows.
        global_attn_indexes: Blocks that attend to the whole image all the
            same; None: the last block of each quarter.
        use_rel_pos: Whether every block learns a decomposed relative position
            bias, which starts at zero.
        min_match_ratio: Share of the backbone's weights that a checkpoint must
            have; 0 to load those of the same names, however few.
        init_cfg: MMEngine's initialisation config. A checkpoint may be of any
            format of :mod:`saim_mm.checkpoint.formats`.

    Raises:
        ValueError: If an argument is none of these, or does not fit another.
    """

    arch_zoo = {
        **VisionTransformer.arch_zoo,
        'saim-mini': dict(
            embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=384
        ),
        'saim-192x4': dict(
            embed_dims=192, num_layers=4, num_heads=3, feedforward_channels=768
        ),
    }
    parse_arch: Any = classmethod(parse_arch)

    def __init__(
        self,
        arch: str | dict = 'base',
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        in_channels: int = 3,
        out_indices: int | Sequence[int] = -1,
        drop_path_rate: float = 0.0,
        qkv_bias: bool = True,
        final_norm: bool = True,
        out_type: str = 'cls_token',
        with_cls_token: bool = True,
        frozen_stages: int = -1,
        interpolate_mode: str = 'bicubic',
        with_cp: bool = False,
        window_size: int = 0,
        global_attn_indexes: Sequence[int] | None = None,
        use_rel_pos: bool = False,
        min_match_ratio: float = 1.0,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        # The parent's blocks cannot attend causally: build the parts here.
        super(VisionTransformer, self).__init__(init_cfg)
        self.arch_settings = self.parse_arch(arch)
        self.embed_dims = self.arch_settings['embed_dims']
        self.num_layers = depth = self.arch_settings['num_layers']
        self.img_size = parse_img_size(img_size, patch_size)
        self.out_indices = parse_out_indices(out_indices, depth)
        check_out_type(out_type, self.OUT_TYPES, with_cls_token)
        check_frozen_stages(frozen_stages, depth)

        self.patch_size = patch_size
        self.in_channels = in_channels
        self.patch_resolution = tuple(s // patch_size for s in self.img_size)
        self.patch_embed = PatchEmbed(
            in_channels=in_channels,
            input_size=self.img_size,
            embed_dims=self.embed_dims,
            conv_type='Conv2d',
            kernel_size=patch_size,
            stride=patch_size,
        )
        self.out_type = out_type
        self.with_cls_token = with_cls_token
        self.num_extra_tokens = int(with_cls_token)
        self.cls_token = None
        if with_cls_token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, self.embed_dims))
        self.pos_embed = nn.Parameter(initial_pos_embed(self))
        self.interpolate_mode = interpolate_mode
        self.min_match_ratio = min_match_ratio
        register_state_dict_hooks(self)

        windows = parse_windows(self, window_size, global_attn_indexes)
        self.whole_image = not any(windows) and not use_rel_pos
        # Not on the meta device, if the model is built there.
        rates = torch.linspace(0, drop_path_rate, depth, device='cpu')
        self.layers = ModuleList(
            TransformerBlock(
                self.embed_dims,
                self.arch_settings['num_heads'],
                self.arch_settings['feedforward_channels'],
                drop_path_rate=rate,
                qkv_bias=qkv_bias,
                with_cp=with_cp,
                window_size=window,
                rel_pos_grid=self.patch_resolution if use_rel_pos else None,
            )
            for rate, window in zip(rates.tolist(), windows)
        )
        self.final_norm = final_norm
        if final_norm:
            self.ln1 = nn.LayerNorm(self.embed_dims, eps=1e-6)
        if out_type == 'avg_featmap':
            self.ln2 = nn.LayerNorm(self.embed_dims, eps=1e-6)

        # What the parent's _freeze_stages expects and SAIM does not have.
        self.pre_norm = nn.Identity()
        self.drop_after_pos = nn.Identity()

        self.frozen_stages = frozen_stages
        if frozen_stages > 0:
            self._freeze_stages()

    def train(self, mode: bool = True) -> SAIMViT:
        super().train(mode)
        if mode and self.frozen_stages > 0:
            self._freeze_stages()
        return self

    def init_weights(self) -> None:
        """Initialise as the authors do, then as ``init_cfg`` says."""
        given, self.init_cfg = self.init_cfg, None
        first = not self.is_init
        try:
            super(VisionTransformer, self).init_weights()
        finally:
            self.init_cfg = given
        if not first:
            return
        configs = configs_of(given)
        if not any(map(is_pretrained, configs)):
            nn.init.xavier_uniform_(
                self.patch_embed.projection.weight.flatten(1)
            )
            if self.with_cls_token:
                nn.init.normal_(self.cls_token, std=0.02)
            with torch.no_grad():
                self.pos_embed.copy_(initial_pos_embed(self))
        apply_init_cfg(self, configs)

    def forward(
        self, x: Tensor, order: PredictionOrder | None = None
    ) -> tuple[Tensor, ...] | tuple[list[Tensor], Tensor]:
        """Encode images.

        Args:
            x: (B, in_channels, H, W). Without an order of any size: it is
                padded to whole patches below and on the right, and the
                position embedding is interpolated.
            order: Encode causally in this order (pre-training). None: every
                token sees every token (downstream).

        Returns:
            Without an order, one output of ``out_type`` for each of
            ``out_indices``. With an order, see :meth:`forward_causal`.
        """
        if order is not None:
            return self.forward_causal(x, order)
        x, grid = self.patch_embed(x)  # (B, L, C), rows and columns
        if self.with_cls_token:
            cls_token = self.cls_token.expand(x.shape[0], -1, -1)
            x = torch.cat([cls_token, x], dim=1)  # (B, L + 1, C)
        x = x + resize_pos_embed(
            self.pos_embed,
            self.patch_resolution,
            grid,
            mode=self.interpolate_mode,
            num_extra_tokens=self.num_extra_tokens,
        )
        outputs = []
        for index, layer in enumerate(self.layers):
            x = layer(x, grid=grid)
            if self.final_norm and index == self.num_layers - 1:
                x = self.ln1(x)
            if index in self.out_indices:
                outputs.append(self._format_output(x, grid))
        return tuple(outputs)

    def forward_causal(
        self, images: Tensor, order: PredictionOrder
    ) -> tuple[list[Tensor], Tensor]:
        """The content stream (Eq. 4), in the prediction order.

        Step t holds the token that comes before the patch predicted at step
        t: the class token, then the patches but the last, which is nobody's
        context. So causal attention over the steps is the paper's content
        mask, and step t knows what the patch of step t may be predicted from.
        (With segments of n patches: L + 1 - n tokens, without the last
        segment, each of which sees its own segment too.)

        Args:
            images: (B, in_channels, H, W), of size ``img_size``.
            order: The order of the L patches.

        Returns:
            The output of every block, (B, L + 1 - n, C) each, and the position
            embedding of the patch predicted at each step, (B, L, C).

        Raises:
            ValueError: As :func:`~.vit_arguments.check_causal`.
        """
        check_causal(self, images)
        cls_position, positions = self.pos_embed.split(
            [1, self.pos_embed.shape[1] - 1], dim=1
        )
        positions = order.sort(positions)  # (1, L, C) -> (B, L, C)
        patches = order.sort(self.patch_embed(images)[0]) + positions
        cls_token = (self.cls_token + cls_position).expand(len(images), -1, -1)
        context = patches[:, : -order.segment_length]
        x = torch.cat([cls_token, context], dim=1)  # (B, L + 1 - n, C)
        mask = order.content_mask()
        hidden = []
        for layer in self.layers:
            x = layer(x, is_causal=mask is None, mask=mask)
            hidden.append(x)
        return hidden, positions
