# The miniature: CIFAR-10 on two CPU cores, a ViT of 4 blocks with 96 channels.
# What tools/study compares on a machine without a GPU inherits from here.
_base_ = [
    '../_base_/models/saim_vit-base-p16.py',
    '../_base_/datasets/cifar10_bs512_saim.py',
    '../_base_/schedules/cifar10_adamw_bs128_20e.py',
    '../_base_/saim_runtime.py',
]

model = dict(backbone=dict(arch='saim-mini', img_size=32, patch_size=4))
train_dataloader = dict(batch_size=128, num_workers=1)
