# Your own classes, one GPU: train/<class>/* and val/<class>/* below data_root,
# the backbone from configs/pretrain/saim_vit-small-p16_..._folder.py.
#   --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT
#       model.head.num_classes=N
#       train_dataloader.dataset.data_root=/path/to/images
#       val_dataloader.dataset.data_root=/path/to/images
_base_ = [
    '../_base_/models/vit-base-p16_classifier.py',
    '../_base_/datasets/class_folders_bs64.py',
    '../_base_/schedules/finetune_adamw_bs1024_coslr.py',
    '../_base_/saim_runtime.py',
]

# No mixup and cutmix: they are for many images.
model = dict(
    backbone=dict(
        arch='deit-small',
        drop_path_rate=0.1,
        init_cfg=dict(checkpoint='work_dirs/mine/epoch_200.pth'),
    ),
    head=dict(
        num_classes=10,
        in_channels=384,
        loss=dict(
            _delete_=True,
            type='LabelSmoothLoss',
            label_smooth_val=0.1,
            mode='original',
        ),
    ),
)
optim_wrapper = dict(optimizer=dict(lr=5e-4 * 64 / 256))
auto_scale_lr = dict(base_batch_size=64)
train_cfg = dict(max_epochs=50)
param_scheduler = _base_.param_scheduler
param_scheduler[0].update(end=5)
param_scheduler[1].update(
    begin=5, end=50, eta_min=None, eta_min_ratio=1e-6 / 2e-3
)
