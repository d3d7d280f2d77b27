"""What no signature says of a config's fields.

The keys that MMEngine's Runner and the toolboxes look up by name. Data only;
the rules are in config.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from mmengine.dist import init_dist
from mmengine.runner import Runner
from mmengine.utils import import_modules_from_strings
from mmengine.utils.dl_utils import set_multi_processing
from mmpretrain.models.utils import (
    ClsDataPreprocessor,
    SelfSupDataPreprocessor,
)
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.utils.data import DataLoader

from ...models.batch_crop import BatchRandomResizedCrop
from .schema import MISSING, REGISTRIES, arguments

Fields = dict[str, tuple[Any, Any]]


def fields(*functions: Callable, **hints: Any) -> Fields:
    """Arguments of functions, and names with annotations beside."""
    found = {name: (hint, MISSING) for name, hint in hints.items()}
    for function in functions:
        for name, argument in arguments(function)[0].items():
            found.setdefault(name, argument)
    return found


def named(names: str) -> Fields:
    """Names of which nothing else is known."""
    return dict.fromkeys(names.split(), (MISSING, MISSING))


#: Keys at the top of a config: of MMEngine's Runner, of what it looks up in
#: the whole config, of the toolboxes' scripts, and of SAIMRunner.
TOP: Fields = {
    **arguments(Runner)[0],
    **fields(
        activation_checkpointing=list | str | None,
        check_config=bool,
        compile=bool | dict | None,
        custom_imports=dict,
        efficient_conv_bn_eval=list | str | None,
        env_cfg=dict,
        find_unused_parameters=bool,
        fsdp=bool,
        model_wrapper_cfg=dict | None,
        randomness=dict,
        resume=bool,
        runner_type=str,
        start_from=str | None,
        strategy=dict | None,
        sync_bn=str | None,
        tta_model=dict | None,
        tta_pipeline=list[dict] | None,
    ),
}

#: Names of variables in the toolboxes' base configs, from which fields are
#: made: not misspelled, however like a field.
VARIABLES = (
    'val_pipeline test_pipeline train_pipeline dataset datasets optimizer '
    'train_dataset val_dataset test_dataset val_dataloaders pipeline '
    'optimizer_config val_evaluators tta_cfg vis_backends data_preprocessor'
).split()

#: Those of MMEngine, which a config may leave out by None.
ENGINE_HOOKS = {
    'runtime_info': 'RuntimeInfoHook',
    'timer': 'IterTimerHook',
    'sampler_seed': 'DistSamplerSeedHook',
    'logger': 'LoggerHook',
    'param_scheduler': 'ParamSchedulerHook',
    'checkpoint': 'CheckpointHook',
}

#: Field -> its ``type`` if it has none, as MMEngine takes it.
DEFAULT_TYPES = {
    'optim_wrapper': 'OptimWrapper',
    'val_cfg': 'ValLoop',
    'test_cfg': 'TestLoop',
    'log_processor': 'LogProcessor',
    'visualizer': 'Visualizer',
    'model_wrapper_cfg': 'MMDistributedDataParallel',
    **{f'default_hooks.{name}': kind for name, kind in ENGINE_HOOKS.items()},
}

#: What takes a dict apart before it builds the rest: keys beside those of
#: the class of its ``type``.
MORE: dict[str, Fields] = {
    'optim_wrapper': fields(
        constructor=str, paramwise_cfg=dict | None, optimizer=dict
    ),
    'train_cfg': fields(by_epoch=bool),
    'param_scheduler': fields(convert_to_iter_based=bool),
    'default_hook': fields(priority=int | str),
    'custom_hooks': fields(priority=int | str),
    'norm_cfg': fields(requires_grad=bool),
    'dcn': named('fallback_on_stride deformable_groups'),
    'upsample_cfg': named('scale_factor mode align_corners'),
    'policies': named('magnitude_key magnitude_range'),
    'loss_cls': named('bg_cls_weight'),
    'override': fields(name=str),
    'q_former_model': fields(pretrained=str | None),
    'vision_encoder': fields(pretrained=str | None),
}

LOADER = fields(
    DataLoader,
    dataset=dict,
    sampler=dict | None,
    batch_sampler=dict | None,
    collate_fn=dict,
    worker_init_fn=dict | None,
    num_batch_per_epoch=int | None,
    disable_subprocess_warning=bool,
    batch_size=int,
    num_workers=int,
    drop_last=bool,
    persistent_workers=bool,
    pin_memory=bool,
    shuffle=bool | None,
    prefetch_factor=int | None,
    timeout=float,
)

#: Dicts without a class, by their field -> what they may hold.
FREE: dict[str, Fields] = {
    'train_dataloader': LOADER,
    'val_dataloader': LOADER,
    'test_dataloader': LOADER,
    'auto_scale_lr': fields(enable=bool, base_batch_size=int),
    'custom_imports': fields(import_modules_from_strings),
    'env_cfg': fields(
        cudnn_benchmark=bool, mp_cfg=dict, dist_cfg=dict, resource_limit=int
    ),
    'mp_cfg': fields(set_multi_processing),
    'dist_cfg': fields(
        init_dist,
        torch.distributed.init_process_group,
        backend=str,
        timeout=float,
    ),
    'randomness': fields(Runner.set_randomness, seed=int | None),
    'compile': fields(torch.compile, target=str),
    'clip_grad': fields(clip_grad_norm_, clip_grad_value_, type=str),
    'loss_scale': named(
        'init_scale growth_factor backoff_factor growth_interval enabled'
    ),
    'tta_cfg': fields(nms=dict, max_per_img=int),
    'nms': named(
        'type iou_threshold iou_thr score_threshold class_agnostic split_thr '
        'max_num offset sigma min_score method'
    ),
    'roi_layer': named(
        'type output_size sampling_ratio spatial_scale aligned pool_mode '
        'use_torchvision out_channels output_channels num_sample '
        'deform_groups group_size'
    ),
    'data_preprocessor': fields(ClsDataPreprocessor, SelfSupDataPreprocessor),
    'random_crop': fields(BatchRandomResizedCrop),
    'hparams': fields(
        pad_val=float | list, interpolation=str, magnitude_std=float | str
    ),
}
#: Those to which users add names of their own: a name that looks like one of
#: these is taken for a slip, any other is theirs.
OPEN: dict[str, Fields] = {
    'data_prefix': named(
        'img img_path seg seg_map_path depth_map_path ann anno ann_path root'
    ),
    'metainfo': fields(classes=str | list, palette=list),
    'filter_cfg': fields(
        filter_empty_gt=bool, min_size=int, bbox_min_size=int
    ),
    'default_hooks': {
        **dict.fromkeys(ENGINE_HOOKS, (dict | None, MISSING)),
        **fields(visualization=dict, step_seed=dict, non_finite=dict),
        **fields(throughput=dict, teacher=dict),
    },
    'custom_keys': named(
        'backbone neck head decode_head auxiliary_head roi_head rpn_head '
        'cls_token pos_embed rel_pos mask_token norm bias layers patch_embed '
        'absolute_pos_embed relative_position_bias_table level_embed'
    ),
}

#: The keys of ``arch`` in mmpretrain's ViTs, and SAIMViT.
ARCH = fields(
    embed_dims=int, num_layers=int, num_heads=int, feedforward_channels=int
)
OF_CUSTOM_KEY = fields(lr_mult=float, decay_mult=float)
TOOLBOXES = ('mmengine', 'mmpretrain', 'mmdet', 'mmseg', 'saim_mm')

#: Fields whose ``type`` is a word or a function, and no registered class.
PLAIN_TYPES: dict[str, tuple[str, ...]] = {
    'clip_grad': ('norm', 'value'),
    'nms': ('nms', 'soft_nms', 'nms_match', 'nms_rotated', 'nms_quadri'),
    'roi_layer': tuple(
        'RoIAlign RoIPool DeformRoIPool ModulatedDeformRoIPool '
        'RoIAlignRotated PrRoIPool SimpleRoIAlign BorderAlign '
        'DeformRoIPoolPack ModulatedDeformRoIPoolPack'.split()
    ),
}

#: Fields of which only the class knows what the dicts in them mean.
OPAQUE = set(
    (
        'adapt_cfg dqs_cfg same_up_trans same_down_trans output_trans '
        'across_lateral_trans across_down_trans across_up_trans '
        'across_skip_trans postprocess_tracklet_cfg tokenizer targets '
        'diffusion_cfg prototype Albu.transforms Albu.bbox_params'
    ).split()
)

#: What a model's train_cfg and test_cfg, and dicts in them, may hold.
OF_MODELS = {
    'mmpretrain': fields(augments=dict | list, probs=list | float | None),
    'mmdet': fields(
        debug=bool,
        rpn=dict | None,
        rcnn=dict | list,
        rpn_proposal=dict,
        nms=dict,
        assigner=dict,
        sampler=dict,
        **dict.fromkeys(
            (
                'nms_pre max_per_img min_bbox_size '
                'score_thr mask_thr mask_thr_binary '
                'ga_assigner ga_sampler reg_assigner max_per_image '
                'allowed_border pos_weight mask_size'
            ).split(),
            MISSING,
        ),
    ),
    'mmseg': {
        **fields(mode=str),
        **named('stride crop_size size size_divisor'),
    },
}

#: Fields of any names -> the annotation of what is in them.
VALUES = {
    'default_hooks': dict | None,
    'custom_keys': dict,
    'data_prefix': str | list[str] | dict,
}

#: Fields, or paths of them, whose dicts name a class.
TYPED = {
    *REGISTRIES,
    *'transforms param_scheduler custom_hooks tta_pipeline tta_model'.split(),
    *'model model.backbone model.neck model.head'.split(),
}

#: Fields of which the first cannot be None if the second is not.
PAIRS = (
    ('mean', 'std'),
    ('std', 'mean'),
    ('bbox_roi_extractor', 'bbox_head'),
    ('bbox_head', 'bbox_roi_extractor'),
)
#: Class -> fields of which one has to be given.
EITHER = {
    'Resize': ('scale', 'scale_factor'),
    'AnchorGenerator': ('scales', 'octave_base_scale'),
    'SegDataPreProcessor': ('size', 'size_divisor'),
}
#: Fields of a model that cannot be None if its class uses them unasked.
NEEDED = ('neck', 'head', 'test_cfg')
