# SimMIM on the images and in the time of SAIM.
_base_ = [
    '../../_base_/models/simmim_vit-tiny-p4.py',
    '../../_base_/datasets/cifar10_bs512_simmim.py',
    '../../_base_/schedules/cifar10_adamw_bs512_400e.py',
    '../../_base_/saim_runtime.py',
]

default_hooks = dict(checkpoint=dict(interval=20))
