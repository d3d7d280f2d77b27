# MAE on the images and in the time of SAIM.
_base_ = [
    '../../_base_/models/mae_vit-tiny-p4.py',
    '../../_base_/datasets/cifar10-in-memory_bs512_saim.py',
    '../../_base_/schedules/cifar10_adamw_bs512_400e.py',
    '../../_base_/saim_runtime.py',
]

optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys=dict(
            cls_token=dict(decay_mult=0.0), mask_token=dict(decay_mult=0.0)
        )
    )
)
default_hooks = dict(checkpoint=dict(interval=20))
