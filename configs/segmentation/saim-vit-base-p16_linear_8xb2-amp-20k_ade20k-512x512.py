# What the frozen encoder knows of every patch: one linear layer on the maps of
# four blocks.
_base_ = ['saim-vit-base-p16_upernet_8xb2-amp-160k_ade20k-512x512.py']

model = dict(
    backbone=dict(frozen_stages=12, drop_path_rate=0.0),
    neck=None,
    decode_head=dict(
        _delete_=True,
        type='LinearSegHead',
        in_channels=[768] * 4,
        num_classes=150,
    ),
    auxiliary_head=None,
)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_cfg = dict(max_iters=20000, val_interval=5000)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=20000)
default_hooks = dict(checkpoint=dict(interval=5000))
