"""SAIM in mmseg: ``custom_imports = dict(imports=['saim_mm.segmentation'])``.

Registers what ``saim_mm`` does, after a look whether mmseg is there.
"""

from ..dependencies import require

require('mmseg', needed_by='saim_mm.segmentation')
