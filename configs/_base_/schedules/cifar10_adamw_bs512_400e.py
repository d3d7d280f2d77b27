# Table 6 for ViT-Ti on CIFAR-10, one GPU.
_base_ = ['saim_adamw_bs2048_coslr.py']

optim_wrapper = dict(optimizer=dict(lr=1e-3))
auto_scale_lr = dict(base_batch_size=512)
train_cfg = dict(max_epochs=400)
param_scheduler = _base_.param_scheduler
param_scheduler[0].update(end=20)
param_scheduler[1].update(begin=20, end=400)
