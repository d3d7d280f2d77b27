_base_ = ['saim_vit-base-p16_32xb64-amp-coslr-300e_in1k.py']

train_cfg = dict(max_epochs=1600)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=1600)
