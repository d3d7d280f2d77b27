# Fine-tuning on CIFAR-10, one GPU.
#   --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT
# From scratch: model.backbone.init_cfg=None
_base_ = [
    '../_base_/models/vit-base-p16_classifier.py',
    '../_base_/datasets/cifar10_bs128.py',
    '../_base_/schedules/finetune_adamw_bs1024_coslr.py',
    '../_base_/saim_runtime.py',
]

model = dict(
    backbone=dict(
        arch='deit-tiny', img_size=32, patch_size=4, drop_path_rate=0.1
    ),
    head=dict(num_classes=10, in_channels=192),
)
train_dataloader = dict(batch_size=256)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
auto_scale_lr = dict(base_batch_size=256)
default_hooks = dict(checkpoint=dict(interval=20))
