"""The network of a training, from what it starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..models.vit import SAIMViT
from ..utils.check import check_arg
from .run import config_for

#: Short names of networks -> SAIMViT's.
ARCHS = {
    'mini': 'saim-mini',
    '192x4': 'saim-192x4',
    'tiny': 'deit-tiny',
    'small': 'deit-small',
    'base': 'base',
    'large': 'large',
}


def backbone_of(config: Path) -> dict[str, Any]:
    """That of a config, with the sizes that SAIMViT has by itself."""
    found = Config.fromfile(config).get('model', {}).get('backbone', {})
    return dict(arch='base', img_size=224, patch_size=16) | dict(found)


def network_of(
    init: str | Path, arch: str | None, size: int | None, patch: int | None
) -> tuple[str | None, int | None, int | None]:
    """What is not given of the three, from the training of a checkpoint.

    Raises:
        ValueError: If its network is none that they can name.
    """
    config = config_for(init)
    if config is None or None not in (arch, size, patch):
        return arch, size, patch
    backbone = backbone_of(config)
    if backbone.get('type') not in ('SAIMViT', 'SimMIMViT'):
        return arch, size, patch
    theirs = SAIMViT.parse_arch(backbone['arch'])
    names = (k for k, v in ARCHS.items() if SAIMViT.parse_arch(v) == theirs)
    arch = arch or next(names, None)
    size = size or backbone['img_size']
    patch = patch or backbone['patch_size']
    check_arg(
        arch is not None and isinstance(size, int),
        'init',
        str(init),
        f'of a network of one of {list(ARCHS)}, for square images; its config '
        f'has {dict(backbone)}. With another size give --size; train others '
        'by tools/train.py',
    )
    return arch, size, patch
