"""SAIMViT: the backbone of pre-training and of every downstream task."""

import logging
import math
from collections.abc import Sequence
from typing import Optional, Union

import torch
from mmcv.cnn.bricks.transformer import PatchEmbed
from mmengine.logging import print_log
from mmengine.model import ModuleList
from mmengine.registry import MODELS
from mmpretrain.models import VisionTransformer
from mmpretrain.models.utils import resize_pos_embed, to_2tuple
from torch import Tensor, nn

from ..utils.check import check_arg
from .layers import TransformerBlock, resize_rel_pos
from .order import PredictionOrder
from .position_embedding import sincos_position_embedding

ARCH_KEYS = {'embed_dims', 'num_layers', 'num_heads', 'feedforward_channels'}


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
            ('base', 'large', 'deit-small', ...) or a dict of ``embed_dims``,
            ``num_layers``, ``num_heads`` and ``feedforward_channels``.
            Defaults to 'base'.
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
            checkpoint must have; 0 to load whatever fits. Defaults to 0.5.
        init_cfg (dict, optional): MMEngine's initialisation config.

    Raises:
        ValueError: If an argument is not as above, or if a checkpoint of
            another architecture or patch size is loaded.
    """

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
        min_match_ratio: float = 0.5,
        init_cfg: Optional[dict] = None,
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
        self._register_load_state_dict_pre_hook(self._check_checkpoint)
        self._register_load_state_dict_pre_hook(self._prepare_pos_embed)
        self._register_load_state_dict_pre_hook(self._prepare_rel_pos)

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
                torch.linspace(0, drop_path_rate, self.num_layers), windows
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

    @classmethod
    def parse_arch(cls, arch: Union[str, dict]) -> dict:
        """Look up an architecture, or check one given as a dict."""
        if isinstance(arch, str):
            check_arg(
                arch.lower() in cls.arch_zoo,
                'arch',
                arch,
                f'one of {sorted(cls.arch_zoo)} or a dict',
            )
            arch = cls.arch_zoo[arch.lower()]
        check_arg(
            isinstance(arch, dict) and ARCH_KEYS <= set(arch),
            'arch',
            arch,
            f'a name or a dict with the keys {sorted(ARCH_KEYS)}',
        )
        check_arg(
            arch['embed_dims'] % 4 == 0,
            "arch['embed_dims']",
            arch['embed_dims'],
            'a multiple of 4 (2-D sine-cosine position embedding)',
        )
        return dict(arch)

    def parse_windows(
        self, window_size: int, global_attn_indexes: Optional[Sequence[int]]
    ) -> list[int]:
        """Check the arguments on windows.

        Returns:
            list[int]: The side of the windows of each block; 0: none.
        """
        check_arg(
            isinstance(window_size, int) and window_size >= 0,
            'window_size',
            window_size,
            'a number of patches, or 0',
        )
        if not window_size:
            check_arg(
                not global_attn_indexes,
                'global_attn_indexes',
                global_attn_indexes,
                'left out if window_size=0: every block is global',
            )
            return [0] * self.num_layers
        check_arg(
            not self.with_cls_token,
            'window_size',
            window_size,
            '0 if there is a class token, which belongs to no window: set '
            'with_cls_token=False',
        )
        if global_attn_indexes is None:
            check_arg(
                self.num_layers % 4 == 0,
                'global_attn_indexes',
                None,
                f'given, because {self.num_layers} blocks have no quarters',
            )
            quarter = self.num_layers // 4
            global_attn_indexes = range(quarter - 1, self.num_layers, quarter)
        check_arg(
            all(0 <= i < self.num_layers for i in global_attn_indexes),
            'global_attn_indexes',
            global_attn_indexes,
            f'indices of the {self.num_layers} blocks, from 0',
        )
        return [
            0 if i in global_attn_indexes else window_size
            for i in range(self.num_layers)
        ]

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
        """Initialise as the authors do, unless a checkpoint is given.

        Raises:
            ValueError: If the checkpoint has no weights of a backbone.
        """
        pretrained = (
            isinstance(self.init_cfg, dict)
            and self.init_cfg['type'] == 'Pretrained'
        )
        try:
            super(VisionTransformer, self).init_weights()
        except AssertionError as error:
            if not pretrained or 'not in the pretrained' not in str(error):
                raise
            raise ValueError(
                f'backbone.init_cfg.checkpoint={self.init_cfg["checkpoint"]!r}'
                ': it has no weights that begin with '
                f'{self.init_cfg["prefix"]!r}, so no encoder under that name: '
                'load a checkpoint of a whole model, or set '
                'backbone.init_cfg.prefix (None: it is of a backbone alone)'
            ) from error
        if pretrained:
            return
        nn.init.xavier_uniform_(self.patch_embed.projection.weight.flatten(1))
        if self.with_cls_token:
            nn.init.normal_(self.cls_token, std=0.02)
        with torch.no_grad():
            self.pos_embed.copy_(self.initial_pos_embed())

    def _check_checkpoint(
        self, state_dict: dict, prefix: str, *args, **kwargs
    ) -> None:
        """Refuse weights of another architecture (MMEngine only warns)."""
        depth = {
            int(name[len(prefix) :].split('.')[1])
            for name in state_dict
            if name.startswith(f'{prefix}layers.')
        }
        if depth and max(depth) + 1 != self.num_layers:
            raise ValueError(
                f'the checkpoint has {max(depth) + 1} blocks, '
                f'backbone.arch={self.arch_settings} has {self.num_layers}: '
                'load a checkpoint of the same arch, or change arch'
            )
        weights = self.state_dict()
        missing = [n for n in weights if prefix + n not in state_dict]
        if missing:
            share = 1 - len(missing) / len(weights)
            message = (
                f"{100 * share:.0f} % of the backbone's weights are in the "
                f'checkpoint; {missing[:3]}{"..." * (len(missing) > 3)} not'
            )
            if share < self.min_match_ratio:
                raise ValueError(
                    f'{message}: it is of another model or under other names '
                    f'(for example {list(state_dict)[:2]}). '
                    'tools/converters/convert.py renames those it knows; '
                    'backbone.min_match_ratio=0 loads whatever fits'
                )
            print_log(message, logger='current', level=logging.WARNING)
        for name, own in weights.items():
            theirs = state_dict.get(prefix + name)
            if (
                theirs is None
                or name == 'pos_embed'
                or '.rel_pos_' in name
                or theirs.shape == own.shape
            ):
                continue
            raise ValueError(
                f'the checkpoint does not fit the backbone: {prefix}{name} '
                f'has shape {tuple(theirs.shape)} in the checkpoint and '
                f'{tuple(own.shape)} here (arch={self.arch_settings}, '
                f'patch_size={self.patch_size}): load a checkpoint of the '
                'same arch and patch_size, or change these'
            )

    def _prepare_pos_embed(
        self, state_dict: dict, prefix: str, *args, **kwargs
    ) -> None:
        """Fit a checkpoint's position embedding to the model's.

        It is resized by ``interpolate_mode``, from a square grid of patches,
        and loses or gains that of the class token (zero). That of DeiT's
        distillation token is dropped.
        """
        name = f'{prefix}pos_embed'
        if name not in state_dict:
            return
        theirs = state_dict[name]
        tokens = [f'{prefix}{x}_token' in state_dict for x in ('cls', 'dist')]
        cls_position, _, patches = theirs.split(
            [*map(int, tokens), theirs.shape[1] - sum(tokens)], dim=1
        )
        if not self.with_cls_token:
            cls_position = theirs[:, :0]
        elif not tokens[0]:
            cls_position = torch.zeros_like(theirs[:, :1])
        rows, columns = self.patch_resolution
        number = patches.shape[1]
        if number != rows * columns:
            side = math.isqrt(number)
            if side**2 != number:
                raise ValueError(
                    f'the checkpoint has positions of {number} patches, and '
                    f'backbone.img_size={self.img_size} has {rows} x '
                    f'{columns}: only those of a square image can be resized'
                )
            patches = resize_pos_embed(
                patches,
                (side, side),
                (rows, columns),
                self.interpolate_mode,
                num_extra_tokens=0,
            )
        state_dict[name] = torch.cat([cls_position, patches], dim=1)

    def _prepare_rel_pos(
        self, state_dict: dict, prefix: str, *args, **kwargs
    ) -> None:
        """Fit a checkpoint's relative positions to the model's grid."""
        for name, own in self.named_parameters():
            theirs = state_dict.get(prefix + name)
            if '.rel_pos_' in name and theirs is not None:
                state_dict[prefix + name] = resize_rel_pos(theirs, len(own))

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
