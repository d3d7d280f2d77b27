# The miniature's, on two CPU cores.
_base_ = ['cifar10_adamw_bs512_400e.py']

auto_scale_lr = dict(base_batch_size=128)
train_cfg = dict(max_epochs=20)
param_scheduler = _base_.param_scheduler
param_scheduler[0].update(end=1)
param_scheduler[1].update(begin=1, end=20)
