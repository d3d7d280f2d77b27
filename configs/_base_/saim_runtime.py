_base_ = ['mmpretrain::_base_/default_runtime.py']

custom_imports = dict(imports=['saim_mm'], allow_failed_imports=False)
# MMEngine's Runner, after a look at what this machine can do.
runner_type = 'SAIMRunner'
# True: each process keeps its part of weights, gradients and optimiser.
fsdp = False

default_hooks = dict(
    # keep_every=100: of every hundredth epoch for good.
    checkpoint=dict(type='SafeCheckpointHook', interval=1, max_keep_ckpts=3),
    # What is random depends on the seed and the iteration alone.
    step_seed=dict(type='StepSeedHook'),
    # policy='skip' or 'restore' goes on after a loss that is not finite.
    non_finite=dict(type='NonFiniteHook'),
    # The moving average of the encoder, if model.teacher is one.
    teacher=dict(type='TeacherHook'),
    # images_per_second and utilization in the log.
    throughput=dict(type='ThroughputHook'),
)
randomness = dict(seed=0)
# As in the base, from where it has a key that browse_dataset trips over.
visualizer = dict(
    _delete_=True,
    type='UniversalVisualizer',
    vis_backends=[dict(type='LocalVisBackend')],
)
