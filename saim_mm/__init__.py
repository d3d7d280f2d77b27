"""Stochastic Autoregressive Image Modeling (SAIM) for OpenMMLab.

Importing this package registers its parts, so that a config of any toolbox
needs only ``custom_imports = dict(imports=['saim_mm'])``.
"""

from .utils.dependency import require

for _module in (
    'mmengine',
    'mmcv',
    'mmpretrain.models',
    'mmpretrain.datasets',
):
    require(_module, needed_by='saim_mm')

from .apis import (  # noqa: E402
    FeatureExtractor,
    get_model,
    list_models,
)
from .checkpoint.loader import register_loaders  # noqa: E402
from .checkpoint.zoo import register_zoo  # noqa: E402
from .datasets.image_folder import UnlabelledImages  # noqa: E402
from .datasets.in_memory import ImagesInMemory  # noqa: E402
from .datasets.sampler import ReproducibleSampler  # noqa: E402
from .datasets.transforms import (  # noqa: E402
    LoadPixels,
    LoadRandomResizedCrop,
)
from .engine.compare import compare  # noqa: E402
from .engine.hooks.checkpoint_hook import SafeCheckpointHook  # noqa: E402
from .engine.hooks.non_finite_hook import NonFiniteHook  # noqa: E402
from .engine.hooks.probe_hook import ProbeHook  # noqa: E402
from .engine.hooks.reconstruction_hook import (  # noqa: E402
    ReconstructionHook,
)
from .engine.hooks.step_seed_hook import StepSeedHook  # noqa: E402
from .engine.hooks.teacher_hook import TeacherHook  # noqa: E402
from .engine.hooks.throughput_hook import ThroughputHook  # noqa: E402
from .engine.optim import (  # noqa: E402
    BFloat16OptimWrapper,
    LayerDecayOptimWrapperConstructor,
    MergedOptimWrapperConstructor,
)
from .engine.recipes import finetune, pretrain  # noqa: E402
from .engine.runner import SAIMRunner  # noqa: E402
from .evaluation.readouts import (  # noqa: E402
    AttentivePooling,
    ClassToken,
    EfficientProbing,
    PatchMean,
)
from .models.data_preprocessor import PixelPreprocessor  # noqa: E402
from .models.decoder import SAIMDecoder  # noqa: E402
from .models.feature_pyramid import SimpleFeaturePyramid  # noqa: E402
from .models.head import SAIMHead  # noqa: E402
from .models.order import PredictionOrder  # noqa: E402
from .models.orders import Order  # noqa: E402
from .models.saim import SAIM  # noqa: E402
from .models.semantic_order import SemanticOrder  # noqa: E402
from .models.simmim import SimMIMViT  # noqa: E402
from .models.target import SmoothedPatchTarget, Target  # noqa: E402
from .models.targets import (  # noqa: E402
    FeatureTarget,
    HOGTarget,
    InputEmbeddingTarget,
)
from .models.teachers import (  # noqa: E402
    FrozenTeacher,
    MovingAverageTeacher,
)
from .models.vit import SAIMViT  # noqa: E402
from .version import __version__  # noqa: E402

register_loaders()
register_zoo()

__all__ = [
    'AttentivePooling',
    'BFloat16OptimWrapper',
    'ClassToken',
    'EfficientProbing',
    'FeatureExtractor',
    'FeatureTarget',
    'FrozenTeacher',
    'HOGTarget',
    'ImagesInMemory',
    'InputEmbeddingTarget',
    'LayerDecayOptimWrapperConstructor',
    'LoadPixels',
    'LoadRandomResizedCrop',
    'MergedOptimWrapperConstructor',
    'MovingAverageTeacher',
    'NonFiniteHook',
    'Order',
    'PatchMean',
    'PixelPreprocessor',
    'PredictionOrder',
    'ProbeHook',
    'ReconstructionHook',
    'ReproducibleSampler',
    'SAIM',
    'SAIMDecoder',
    'SAIMHead',
    'SAIMRunner',
    'SAIMViT',
    'SafeCheckpointHook',
    'SemanticOrder',
    'SimMIMViT',
    'SimpleFeaturePyramid',
    'SmoothedPatchTarget',
    'StepSeedHook',
    'Target',
    'TeacherHook',
    'ThroughputHook',
    'UnlabelledImages',
    '__version__',
    'compare',
    'finetune',
    'get_model',
    'list_models',
    'pretrain',
]
