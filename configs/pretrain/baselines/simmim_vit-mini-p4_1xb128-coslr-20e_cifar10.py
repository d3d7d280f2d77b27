# SimMIM on the images and in the time of SAIM: the miniature.
_base_ = [
    '../../_base_/models/simmim_vit-tiny-p4.py',
    '../../_base_/datasets/cifar10_bs512_simmim.py',
    '../../_base_/schedules/cifar10_adamw_bs128_20e.py',
    '../../_base_/saim_runtime.py',
]

model = dict(backbone=dict(arch='saim-mini'), neck=dict(in_channels=96))
train_dataloader = dict(batch_size=128, num_workers=1)
