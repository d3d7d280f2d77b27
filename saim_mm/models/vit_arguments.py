"""What the arguments of SAIMViT mean, and which there cannot be."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ..utils.check import check_arg

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
