_base_ = ['mmseg::_base_/default_runtime.py']

custom_imports = dict(
    imports=['saim_mm.segmentation'], allow_failed_imports=False
)
# MMEngine's Runner, after a look at what this machine can do.
runner_type = 'SAIMRunner'

val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='SafeCheckpointHook',
        by_epoch=False,
        interval=16000,
        max_keep_ckpts=3,
    ),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='SegVisualizationHook'),
    step_seed=dict(type='StepSeedHook'),
    non_finite=dict(type='NonFiniteHook'),
    throughput=dict(type='ThroughputHook'),
)
randomness = dict(seed=0)
