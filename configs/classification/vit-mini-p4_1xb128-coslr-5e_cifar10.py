# Fine-tuning on CIFAR-10 on two CPU cores.
#   --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT
# From scratch: model.backbone.init_cfg=None
_base_ = ['vit-tiny-p4_1xb256-amp-coslr-100e_cifar10.py']

model = dict(
    backbone=dict(arch='saim-mini', drop_path_rate=0.0),
    head=dict(in_channels=96),
)
train_dataloader = dict(batch_size=128, num_workers=1)
val_dataloader = dict(num_workers=1)
test_dataloader = dict(num_workers=1)
# In so few epochs the lower blocks would hardly move at decayed rates.
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=1.0))
auto_scale_lr = dict(base_batch_size=128)
train_cfg = dict(max_epochs=5)
param_scheduler = _base_.param_scheduler
param_scheduler[0].update(end=1)
param_scheduler[1].update(begin=1, end=5)
default_hooks = dict(checkpoint=dict(interval=1))
