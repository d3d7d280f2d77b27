# A quarter of the miniature's length: two CPU cores, a quarter of an hour.
_base_ = ['saim_vit-mini-p4_1xb128-coslr-20e_cifar10.py']

train_cfg = dict(max_epochs=5)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=5)
