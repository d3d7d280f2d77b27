"""SAIM in mmdet: ``custom_imports = dict(imports=['saim_mm.detection'])``.

Registers what ``saim_mm`` does and the parts that need mmdet, after a look
whether mmdet is there. Where mmcv has no compiled operators, torchvision's
take their place (:mod:`saim_mm.utils.ops`).
"""

from ..utils import ops
from ..utils.dependency import require

ops.install()
require('mmdet', needed_by='saim_mm.detection')

from .coco_format import COCOFormat  # noqa: E402
from .multi_block_fpn import MultiBlockFPN  # noqa: E402

__all__ = ['COCOFormat', 'MultiBlockFPN']
