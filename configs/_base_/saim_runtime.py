_base_ = ['mmpretrain::_base_/default_runtime.py']

custom_imports = dict(imports=['saim_mm'], allow_failed_imports=False)
# MMEngine's Runner, after a look at what this machine can do.
runner_type = 'SAIMRunner'

default_hooks = dict(
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=3)
)

# Every process draws its own crops and orders.
randomness = dict(seed=0, diff_rank_seed=True)
