# MoCo v3 on the images and in the time of SAIM: the miniature.
_base_ = [
    '../../_base_/models/mocov3_vit-tiny-p4.py',
    '../../_base_/datasets/cifar10_bs512_mocov3.py',
    '../../_base_/schedules/cifar10_adamw_bs128_20e.py',
    '../../_base_/saim_runtime.py',
]

model = dict(
    backbone=dict(
        arch=dict(  # saim-mini, by the name that mmpretrain does not know
            _delete_=True,
            embed_dims=96,
            num_layers=4,
            num_heads=3,
            feedforward_channels=384,
        )
    ),
    neck=dict(in_channels=96, hid_channels=512),
    head=dict(predictor=dict(hid_channels=512)),
)
train_dataloader = dict(batch_size=128, num_workers=1)
