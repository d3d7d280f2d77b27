# Linear probing on ImageNet-1k: a linear layer behind BatchNorm, on the class
# token of a frozen encoder.
#   --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT
_base_ = [
    '../_base_/models/vit-base-p16_classifier.py',
    'mmpretrain::_base_/datasets/imagenet_bs32_pil_bicubic.py',
    '../_base_/schedules/linear_sgd_bs2048_coslr.py',
    '../_base_/saim_runtime.py',
]

model = dict(
    backbone=dict(frozen_stages=12),
    neck=dict(type='ClsBatchNormNeck', input_features=768),
    head=dict(init_cfg=dict(std=0.01)),
)
train_dataloader = dict(batch_size=256, drop_last=True)
val_dataloader = dict(batch_size=256)
test_dataloader = dict(batch_size=256)
