# CIFAR-10 on one GPU: ViT-Ti with patches of 4 pixels.
_base_ = [
    '../_base_/models/saim_vit-base-p16.py',
    '../_base_/datasets/cifar10-in-memory_bs512_saim.py',
    '../_base_/schedules/cifar10_adamw_bs512_400e.py',
    '../_base_/saim_runtime.py',
]

model = dict(backbone=dict(arch='deit-tiny', img_size=32, patch_size=4))
default_hooks = dict(checkpoint=dict(interval=20))
