# Linear probing on CIFAR-10 on two CPU cores.
_base_ = ['vit-tiny-p4_1xb256-linear-coslr-50e_cifar10.py']

model = dict(
    backbone=dict(arch='saim-mini', frozen_stages=4),
    neck=dict(input_features=96),
    head=dict(in_channels=96),
)
train_dataloader = dict(batch_size=128, num_workers=1)
val_dataloader = dict(num_workers=1)
test_dataloader = dict(num_workers=1)
auto_scale_lr = dict(base_batch_size=128)
train_cfg = dict(max_epochs=5)
param_scheduler = _base_.param_scheduler
param_scheduler[0].update(end=5)
