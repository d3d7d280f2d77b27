# Small detectors on CPUs.
_base_ = ['coco_adamw_bs64_100e.py']

optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(lr=5e-4, weight_decay=0.05)
)
auto_scale_lr = dict(base_batch_size=8)
train_cfg = dict(max_epochs=6, val_interval=3)
param_scheduler = _base_.param_scheduler
param_scheduler[0].update(end=1)
param_scheduler[1].update(begin=1, end=6)
