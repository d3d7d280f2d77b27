"""Stochastic Autoregressive Image Modeling (SAIM) for OpenMMLab.

Importing this package registers its parts, so that a config of any toolbox
needs only ``custom_imports = dict(imports=['saim_mm'])``.
"""

from .dependencies import require

for _module in ('mmengine', 'mmcv', 'mmpretrain'):
    require(_module, needed_by='saim_mm')

from . import checkpoint  # noqa: E402, F401  registers its loader
from .algorithm import SAIM  # noqa: E402
from .apis import (  # noqa: E402
    FeatureExtractor,
    get_model,
    list_models,
)
from .backbone import SAIMViT  # noqa: E402
from .data import UnlabelledImages  # noqa: E402
from .decoder import SAIMDecoder  # noqa: E402
from .head import SAIMHead  # noqa: E402
from .hooks import ReconstructionHook, ThroughputHook  # noqa: E402
from .optim import (  # noqa: E402
    BFloat16OptimWrapper,
    LayerDecayOptimWrapperConstructor,
    MergedOptimWrapperConstructor,
)
from .order import PredictionOrder  # noqa: E402
from .pyramid import SimpleFeaturePyramid  # noqa: E402
from .reproducible import (  # noqa: E402
    ReproducibleSampler,
    StepSeedHook,
)
from .rivals import SimMIMViT  # noqa: E402
from .runner import SAIMRunner  # noqa: E402
from .safety import NonFiniteHook, SafeCheckpointHook  # noqa: E402
from .target import SmoothedPatchTarget  # noqa: E402
from .transforms import LoadRandomResizedCrop  # noqa: E402
from .version import __version__  # noqa: E402

__all__ = [
    'BFloat16OptimWrapper',
    'FeatureExtractor',
    'LayerDecayOptimWrapperConstructor',
    'LoadRandomResizedCrop',
    'MergedOptimWrapperConstructor',
    'NonFiniteHook',
    'SAIM',
    'SAIMDecoder',
    'SAIMHead',
    'SAIMRunner',
    'SAIMViT',
    'PredictionOrder',
    'ReconstructionHook',
    'ReproducibleSampler',
    'SafeCheckpointHook',
    'StepSeedHook',
    'SimMIMViT',
    'SimpleFeaturePyramid',
    'SmoothedPatchTarget',
    'ThroughputHook',
    'UnlabelledImages',
    '__version__',
    'get_model',
    'list_models',
]
