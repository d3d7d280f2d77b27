"""SAIM in mmseg: ``custom_imports = dict(imports=['saim_mm.segmentation'])``.

Registers what ``saim_mm`` does and the parts that need mmseg, after a look
whether it is there. mmseg of OpenMMLab's own distribution imports operators of
mmcv, though none that is used here is computed by them.
"""

from importlib.metadata import PackageNotFoundError, distribution

from mmengine.config import utils

from ..utils import ops
from ..utils.dependency import require

ops.install()
require('mmseg', needed_by='saim_mm.segmentation')

# `mmseg::` in a config: MMEngine looks for mmseg's files in the distribution
# mmsegmentation, and there may be its continuation under another name.
try:
    distribution('mmsegmentation')
except PackageNotFoundError:
    utils.MODULE2PACKAGE['mmseg'] = 'mmseg'

from .image_label_folders import ImageLabelFolders, LoadCheckedAnnotations  # noqa: E402
from .linear_head import LinearSegHead  # noqa: E402

__all__ = ['ImageLabelFolders', 'LinearSegHead', 'LoadCheckedAnnotations']
