"""What the arguments of SAIMViT mean, and which there cannot be."""

from __future__ import annotations

from collections.abc import Sequence

from mmpretrain.models.utils import to_2tuple
from torch import Tensor, nn

from ..utils.check import check_arg, check_choice, check_positive_int

ARCH_KEYS = {'embed_dims', 'num_layers', 'num_heads', 'feedforward_channels'}


def parse_arch(cls: type, arch: str | dict) -> dict:
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


def parse_img_size(
    img_size: int | tuple[int, int], patch_size: int
) -> tuple[int, int]:
    """Height and width in pixels, of whole patches."""
    check_positive_int('patch_size', patch_size)
    sides = tuple(to_2tuple(img_size))
    check_arg(
        len(sides) == 2
        and all(
            isinstance(s, int) and s > 0 and s % patch_size == 0 for s in sides
        ),
        'img_size',
        img_size,
        f'a positive multiple of patch_size={patch_size}, or a pair (height, '
        'width) of such',
    )
    return sides


def parse_out_indices(
    out_indices: int | Sequence[int], depth: int
) -> list[int]:
    """Indices of blocks, from 0."""
    if isinstance(out_indices, int):
        out_indices = [out_indices]
    check_arg(
        isinstance(out_indices, Sequence)
        and not isinstance(out_indices, str)
        and all(
            isinstance(i, int) and -depth <= i < depth for i in out_indices
        ),
        'out_indices',
        out_indices,
        f'indices of the {depth} blocks',
    )
    return [i % depth for i in out_indices]


def check_out_type(
    out_type: str, known: set[str], with_cls_token: bool
) -> None:
    """Refuse an output that there is not."""
    check_choice('out_type', out_type, sorted(known))
    check_arg(
        with_cls_token or out_type != 'cls_token',
        'out_type',
        out_type,
        "something else than 'cls_token' if with_cls_token=False",
    )


def check_frozen_stages(frozen_stages: int, depth: int) -> None:
    """Refuse to freeze more blocks than there are."""
    check_arg(
        frozen_stages <= depth,
        'frozen_stages',
        frozen_stages,
        f'at most the {depth} blocks',
    )


def check_causal(vit: nn.Module, images: Tensor) -> None:
    """Refuse what cannot attend causally in an order.

    Raises:
        ValueError: If the images are not of size ``img_size``, or the backbone
            attends in windows.
    """
    if not vit.whole_image:
        raise ValueError(
            'backbone.window_size and backbone.use_rel_pos must be left out '
            'in pre-training: every block attends causally to the whole image'
        )
    if tuple(images.shape[-2:]) != vit.img_size:
        raise ValueError(
            f'backbone.img_size={vit.img_size}: the images arrive as '
            f'{tuple(images.shape[-2:])} (height, width); set img_size to '
            'that, or the crop in the pipeline to img_size'
        )


def check_layer(vit: nn.Module, layer: int) -> None:
    """Refuse a block that there is not.

    Raises:
        ValueError: If ``layer`` is not a block's index, from 0 or from the end
            with -1.
    """
    depth = vit.num_layers
    check_arg(
        isinstance(layer, int) and -depth <= layer < depth,
        'layer',
        layer,
        f'one of the {depth} blocks, 0 to {depth - 1}',
    )


def parse_windows(
    vit: nn.Module,
    window_size: int,
    global_attn_indexes: Sequence[int] | None,
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
        return [0] * vit.num_layers
    check_arg(
        not vit.with_cls_token,
        'window_size',
        window_size,
        '0 if there is a class token, which belongs to no window: set '
        'with_cls_token=False',
    )
    if global_attn_indexes is None:
        check_arg(
            vit.num_layers % 4 == 0,
            'global_attn_indexes',
            None,
            f'given, because {vit.num_layers} blocks have no quarters',
        )
        quarter = vit.num_layers // 4
        global_attn_indexes = range(quarter - 1, vit.num_layers, quarter)
    check_arg(
        all(0 <= i < vit.num_layers for i in global_attn_indexes),
        'global_attn_indexes',
        global_attn_indexes,
        f'indices of the {vit.num_layers} blocks, from 0',
    )
    return [
        0 if i in global_attn_indexes else window_size
        for i in range(vit.num_layers)
    ]
