"""SAIMViT: the backbone of pre-training and of every downstream task."""

from collections.abc import Sequence
from typing import Optional, Union

import torch
from mmcv.cnn.bricks.transformer import PatchEmbed
from mmengine.model import ModuleList
from mmengine.registry import MODELS
from mmpretrain.models import VisionTransformer
from mmpretrain.models.utils import resize_pos_embed, to_2tuple
from torch import Tensor, nn

from ..utils.check import check_arg
from .layers import TransformerBlock
from .order import PredictionOrder
from .position_embedding import sincos_position_embedding
from .vit_arguments import parse_arch, parse_windows
from .vit_state_dict import (
    apply_init_cfg,
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
        arch (str | dict): A name from mmpretrain's ``VisionTransformer``
            ('base', 'large', 'deit-small', ...), 'saim-mini' or 'saim-192x4'
            (4 blocks of 96 or 192 channels, for CPUs), or a dict of
            ``embed_dims``, ``num_layers``, ``num_heads`` and
            ``feedforward_channels``. Defaults to 'base'.
        img_size (int | tuple[int, int]): Height and width in pixels, multiples
            of ``patch_size``. Defaults to 224.
        patch_size (int): Side of a patch in pixels. Defaults to 16.
        in_channels (int): Channels of the image. Defaults to 3.
        out_indices (int | Sequence[int]): Blocks whose output is returned.
            Defaults to -1, the last.
        drop_path_rate (float): Stochastic depth rate of the last block; it
            grows linearly from 0 at the first. Defaults to 0.
        qkv_bias (bool): Whether queries, keys and values have a bias.
            Defaults to True.
        final_norm (bool): Whether a LayerNorm follows the last block. In
            pre-training that norm is the one before the prediction head, as
            in the authors' code, so a checkpoint brings it along. Defaults to
            True.
        out_type (str): 'cls_token' (B, C), 'featmap' (B, C, rows, columns),
            'avg_featmap' (B, C) or 'raw' (B, L + 1, C). Defaults to
            'cls_token'.
        with_cls_token (bool): Whether there is a class token. Pre-training
            needs one: it is all that the first patch is predicted from.
            Defaults to True.
        frozen_stages (int): How many blocks (and what is before them) are not
            trained. Defaults to -1, everything is.
        interpolate_mode (str): How the position embedding is resized to
            another image size. Defaults to 'bicubic'.
        with_cp (bool): Whether the backward pass computes each block again
            rather than keep its activations: less memory, a third more time.
            Defaults to False.
        window_size (int): Side, in patches, of the windows that attend within
            themselves, in all blocks but ``global_attn_indexes`` (ViTDet: 14).
            Needs ``with_cls_token=False``. Defaults to 0, every block attends
            to the whole image.
        global_attn_indexes (Sequence[int], optional): Blocks that attend to
            the whole image all the same. Defaults to None, the last block of
            each quarter.
        use_rel_pos (bool): Whether every block learns a decomposed relative
            position bias, which starts at zero. Defaults to False.
        min_match_ratio (float): Share of the backbone's weights that a
            checkpoint must have; 0 to load whatever fits. Defaults to 1.
        init_cfg (dict | list[dict], optional): MMEngine's initialisation
            config. A checkpoint may be of any format of
            :mod:`saim_mm.checkpoint.formats`.

    Raises:
        ValueError: If an argument is not as above, or if a checkpoint of
            another architecture or patch size is loaded.
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
    parse_arch = classmethod(parse_arch)
    parse_windows = parse_windows

    def __init__(
        self,
        arch: Union[str, dict] = 'base',
        img_size: Union[int, tuple[int, int]] = 224,
        patch_size: int = 16,
        in_channels: int = 3,
        out_indices: Union[int, Sequence[int]] = -1,
        drop_path_rate: float = 0.0,
        qkv_bias: bool = True,
        final_norm: bool = True,
        out_type: str = 'cls_token',
        with_cls_token: bool = True,
        frozen_stages: int = -1,
        interpolate_mode: str = 'bicubic',
        with_cp: bool = False,
        window_size: int = 0,
        global_attn_indexes: Optional[Sequence[int]] = None,
        use_rel_pos: bool = False,
        min_match_ratio: float = 1.0,
        init_cfg: Union[dict, list[dict], None] = None,
    ) -> None:
        # As mmpretrain's own variants do, build the parts here: the parent's
        # blocks cannot attend causally.
        super(VisionTransformer, self).__init__(init_cfg)
        self.arch_settings = self.parse_arch(arch)
        self.embed_dims = self.arch_settings['embed_dims']
        self.num_layers = self.arch_settings['num_layers']

        check_arg(
            isinstance(patch_size, int) and patch_size > 0,
            'patch_size',
            patch_size,
            'a positive integer',
        )
        self.patch_size = patch_size
        self.in_channels = in_channels
        self.img_size = tuple(to_2tuple(img_size))
        check_arg(
            len(self.img_size) == 2
            and all(
                isinstance(s, int) and s > 0 and s % patch_size == 0
                for s in self.img_size
            ),
            'img_size',
            img_size,
            f'a positive multiple of patch_size={patch_size}, or a pair '
            '(height, width) of such',
        )
        self.patch_resolution = tuple(s // patch_size for s in self.img_size)
        self.patch_embed = PatchEmbed(
            in_channels=in_channels,
            input_size=self.img_size,
            embed_dims=self.embed_dims,
            conv_type='Conv2d',
            kernel_size=patch_size,
            stride=patch_size,
        )

        check_arg(
            out_type in self.OUT_TYPES,
            'out_type',
            out_type,
            f'one of {sorted(self.OUT_TYPES)}',
        )
        check_arg(
            with_cls_token or out_type != 'cls_token',
            'out_type',
            out_type,
            "something else than 'cls_token' if with_cls_token=False",
        )
        self.out_type = out_type
        self.with_cls_token = with_cls_token
        self.num_extra_tokens = int(with_cls_token)
        self.cls_token = (
            nn.Parameter(torch.zeros(1, 1, self.embed_dims))
            if with_cls_token
            else None
        )
        self.pos_embed = nn.Parameter(self.initial_pos_embed())
        self.interpolate_mode = interpolate_mode
        self.min_match_ratio = min_match_ratio
        register_state_dict_hooks(self)

        indices = (
            [out_indices]
            if isinstance(out_indices, int)
            else list(out_indices)
        )
        check_arg(
            all(-self.num_layers <= i < self.num_layers for i in indices),
            'out_indices',
            out_indices,
            f'indices of the {self.num_layers} blocks',
        )
        self.out_indices = [i % self.num_layers for i in indices]

        windows = self.parse_windows(window_size, global_attn_indexes)
        self.whole_image = not any(windows) and not use_rel_pos
        self.layers = ModuleList(
            TransformerBlock(
                self.embed_dims,
                self.arch_settings['num_heads'],
                self.arch_settings['feedforward_channels'],
                drop_path_rate=rate.item(),
                qkv_bias=qkv_bias,
                with_cp=with_cp,
                window_size=window,
                rel_pos_grid=self.patch_resolution if use_rel_pos else None,
            )
            for rate, window in zip(
                # Not on the meta device, if that is where the model is built.
                torch.linspace(
                    0, drop_path_rate, self.num_layers, device='cpu'
                ),
                windows,
            )
        )
        self.final_norm = final_norm
        if final_norm:
            self.ln1 = nn.LayerNorm(self.embed_dims, eps=1e-6)
        if out_type == 'avg_featmap':
            self.ln2 = nn.LayerNorm(self.embed_dims, eps=1e-6)

        # What the parent's _freeze_stages expects and SAIM does not have.
        self.pre_norm = nn.Identity()
        self.drop_after_pos = nn.Identity()

        check_arg(
            frozen_stages <= self.num_layers,
            'frozen_stages',
            frozen_stages,
            f'at most the {self.num_layers} blocks',
        )
        self.frozen_stages = frozen_stages
        if frozen_stages > 0:
            self._freeze_stages()

    def train(self, mode: bool = True) -> 'SAIMViT':
        """Set the mode; frozen blocks stay in evaluation mode."""
        super().train(mode)
        if mode and self.frozen_stages > 0:
            self._freeze_stages()
        return self

    def initial_pos_embed(self) -> Tensor:
        """The sine-cosine embedding, zero for the class token.

        Returns:
            Tensor: (1, L + 1, C), or (1, L, C) without a class token.
        """
        patches = sincos_position_embedding(
            self.patch_resolution, self.embed_dims
        )
        extra = patches.new_zeros(self.num_extra_tokens, self.embed_dims)
        return torch.cat([extra, patches]).unsqueeze(0)

    def init_weights(self) -> None:
        """Initialise as the authors do, then as ``init_cfg`` says.

        Raises:
            ValueError: If the weights of a checkpoint are not this backbone's.
        """
        given, self.init_cfg = self.init_cfg, None
        first = not self.is_init
        try:
            super(VisionTransformer, self).init_weights()
        finally:
            self.init_cfg = given
        if not first:
            return
        configs = [given] if isinstance(given, dict) else list(given or [])
        if not any(map(is_pretrained, configs)):
            nn.init.xavier_uniform_(
                self.patch_embed.projection.weight.flatten(1)
            )
            if self.with_cls_token:
                nn.init.normal_(self.cls_token, std=0.02)
            with torch.no_grad():
                self.pos_embed.copy_(self.initial_pos_embed())
        apply_init_cfg(self, configs)

    def forward(
        self, x: Tensor, order: Optional[PredictionOrder] = None
    ) -> Union[tuple[Tensor, ...], tuple[list[Tensor], Tensor]]:
        """Encode images.

        Args:
            x (Tensor): (B, in_channels, H, W). Without an order of any size:
                it is padded to whole patches below and on the right, and the
                position embedding is interpolated.
            order (PredictionOrder, optional): Encode causally in this order
                (pre-training). Defaults to None: every token sees every token
                (downstream).

        Returns:
            tuple: Without an order, one output of ``out_type`` for each of
            ``out_indices``. With an order, see :meth:`forward_causal`.
        """
        if order is not None:
            return self.forward_causal(x, order)
        x, grid = self.patch_embed(x)  # (B, L, C), rows and columns
        if self.with_cls_token:
            x = torch.cat(
                [self.cls_token.expand(x.shape[0], -1, -1), x], dim=1
            )
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
            images (Tensor): (B, in_channels, H, W), of size ``img_size``.
            order (PredictionOrder): The order of the L patches.

        Returns:
            tuple: The output of every block, a list of (B, L + 1 - n, C), and
            the position embedding of the patch predicted at each step,
            (B, L, C).

        Raises:
            ValueError: If the images are not of size ``img_size``, or the
                backbone attends in windows.
        """
        if not self.whole_image:
            raise ValueError(
                'backbone.window_size and backbone.use_rel_pos must be left '
                'out in pre-training: every block attends causally to the '
                'whole image'
            )
        if tuple(images.shape[-2:]) != self.img_size:
            raise ValueError(
                f'backbone.img_size={self.img_size}: the images arrive as '
                f'{tuple(images.shape[-2:])} (height, width); set img_size to '
                'that, or the crop in the pipeline to img_size'
            )
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

    def check_layer(self, layer: int) -> None:
        """Refuse a block that there is not.

        Raises:
            ValueError: If ``layer`` is not a block's index, from 0 or from
                the end with -1.
        """
        depth = self.num_layers
        check_arg(
            isinstance(layer, int) and -depth <= layer < depth,
            'layer',
            layer,
            f'one of the {depth} blocks, 0 to {depth - 1}',
        )

    def layer_output(self, x: Tensor, layer: int, out_type: str) -> Tensor:
        """Encode images as :meth:`forward`, for one block's output.

        Args:
            x (Tensor): (B, in_channels, H, W).
            layer (int): The block, from 0, or from the end with -1.
            out_type (str): As for the class.

        Returns:
            Tensor: The output, of ``out_type``.
        """
        self.check_layer(layer)
        usual = self.out_type, self.out_indices
        self.out_type, self.out_indices = out_type, [layer % self.num_layers]
        try:
            return self(x)[0]
        finally:
            self.out_type, self.out_indices = usual
