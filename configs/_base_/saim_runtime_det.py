_base_ = ['mmdet::_base_/default_runtime.py']

custom_imports = dict(
    imports=['saim_mm.detection'], allow_failed_imports=False
)
# MMEngine's Runner, after a look at what this machine can do.
runner_type = 'SAIMRunner'

default_hooks = dict(
    checkpoint=dict(type='SafeCheckpointHook', max_keep_ckpts=3),
    step_seed=dict(type='StepSeedHook'),
    non_finite=dict(type='NonFiniteHook'),
    throughput=dict(type='ThroughputHook'),
)
randomness = dict(seed=0)
