# A quarter of the paper's length.
_base_ = ['mask-rcnn_saim-vit-base-p16_vitdet_8xb8-amp-lsj-100e_coco.py']

train_cfg = dict(max_epochs=25)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=25)
