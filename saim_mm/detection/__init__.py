"""SAIM in mmdet: ``custom_imports = dict(imports=['saim_mm.detection'])``.

Registers what ``saim_mm`` does, after a look whether mmdet and mmcv's
compiled ops, which its heads need, are there.
"""

from ..dependencies import require

for _module in ('mmcv.ops', 'mmdet'):
    require(_module, needed_by='saim_mm.detection')
