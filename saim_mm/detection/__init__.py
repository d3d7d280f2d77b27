"""SAIM in mmdet: ``custom_imports = dict(imports=['saim_mm.detection'])``.

Registers what ``saim_mm`` does and the parts that need mmdet, after a look
whether mmdet and mmcv's compiled ops, which its heads need, are there.
"""

from ..dependencies import require

for _module in ('mmcv.ops', 'mmdet'):
    require(_module, needed_by='saim_mm.detection')

from .data import COCOFormat  # noqa: E402
from .pyramid import MultiBlockFPN  # noqa: E402

__all__ = ['COCOFormat', 'MultiBlockFPN']
