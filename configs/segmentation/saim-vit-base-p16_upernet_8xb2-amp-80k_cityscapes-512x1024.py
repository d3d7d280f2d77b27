# Cityscapes, which the paper does not train: Table 9 with half the steps.
_base_ = [
    '../_base_/mmseg.py',
    '../_base_/models/upernet_saim-vit-base-p16.py',
    'mmseg::_base_/datasets/cityscapes.py',
    '../_base_/schedules/ade20k_adamw_bs16_160k.py',
    '../_base_/saim_runtime_seg.py',
]

crop_size = (512, 1024)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(img_size=crop_size),
    decode_head=dict(num_classes=19),
    auxiliary_head=dict(num_classes=19),
    test_cfg=dict(mode='slide', crop_size=crop_size, stride=(341, 683)),
)
train_cfg = dict(max_iters=80000, val_interval=8000)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=80000)
default_hooks = dict(checkpoint=dict(interval=8000))
