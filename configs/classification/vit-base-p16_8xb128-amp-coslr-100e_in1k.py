# Fine-tuning on ImageNet-1k: Table 7 of the paper.
#   --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT
_base_ = [
    '../_base_/models/vit-base-p16_classifier.py',
    'mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py',
    '../_base_/schedules/finetune_adamw_bs1024_coslr.py',
    '../_base_/saim_runtime.py',
]

model = dict(
    backbone=dict(drop_path_rate=0.1),
    head=dict(
        loss=dict(
            _delete_=True,
            type='LabelSmoothLoss',
            label_smooth_val=0.1,
            mode='original',
        )
    ),
    train_cfg=dict(
        augments=[
            dict(type='Mixup', alpha=0.8),
            dict(type='CutMix', alpha=1.0),
        ]
    ),
)
train_dataloader = dict(batch_size=128, drop_last=True)
val_dataloader = dict(batch_size=128)
test_dataloader = dict(batch_size=128)
# The last rate, as all rates, is decayed with the block (MAE's code).
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(eta_min=None, eta_min_ratio=1e-6 / 2e-3)
