# What the frozen encoder knows of every patch: one linear layer on the maps of
# all four blocks. One block alone: model.backbone.out_indices="[3]"
# model.decode_head.in_channels="[192]"
_base_ = ['saim-vit-192x4-p8_upernet_1xb8-600i_camvid-240x320.py']

model = dict(
    backbone=dict(frozen_stages=4),
    neck=None,
    decode_head=dict(
        _delete_=True,
        type='LinearSegHead',
        in_channels=[192] * 4,
        num_classes=11,
    ),
    auxiliary_head=None,
)
optim_wrapper = dict(optimizer=dict(lr=5e-3))
train_cfg = dict(max_iters=200, val_interval=100)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=200)
default_hooks = dict(checkpoint=dict(interval=100))
