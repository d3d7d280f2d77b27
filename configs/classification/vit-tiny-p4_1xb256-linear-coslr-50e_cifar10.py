# Linear probing on CIFAR-10, one GPU.
_base_ = [
    '../_base_/models/vit-base-p16_classifier.py',
    '../_base_/datasets/cifar10_bs128.py',
    '../_base_/schedules/linear_sgd_bs2048_coslr.py',
    '../_base_/saim_runtime.py',
]

model = dict(
    backbone=dict(
        arch='deit-tiny', img_size=32, patch_size=4, frozen_stages=12
    ),
    neck=dict(type='ClsBatchNormNeck', input_features=192),
    head=dict(num_classes=10, in_channels=192, init_cfg=dict(std=0.01)),
)
train_dataloader = dict(batch_size=256)
optim_wrapper = dict(optimizer=dict(lr=0.1))
auto_scale_lr = dict(base_batch_size=256)
train_cfg = dict(max_epochs=50)
param_scheduler = _base_.param_scheduler
param_scheduler[0].update(end=50)
