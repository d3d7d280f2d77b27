# Your own images, one GPU; the backbone from
# configs/pretrain/saim_vit-small-p16_..._folder.py. Below data_root:
#   images/train, images/val            photographs
#   annotations/train, annotations/val  of the same names, as PNG: the number
#                                       of its class in each pixel, 255: void
#   classes.txt                         a name a line, class 0 first, N lines
#   --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT
#       model.decode_head.num_classes=N model.auxiliary_head.num_classes=N
#       train_dataloader.dataset.data_root=/path/to/data
#       val_dataloader.dataset.data_root=/path/to/data
_base_ = [
    '../_base_/mmseg.py',
    '../_base_/models/upernet_saim-vit-base-p16.py',
    '../_base_/datasets/image-label-folders_512.py',
    '../_base_/schedules/ade20k_adamw_bs16_160k.py',
    '../_base_/saim_runtime_seg.py',
]

model = dict(
    backbone=dict(
        arch='deit-small',
        init_cfg=dict(checkpoint='work_dirs/mine/epoch_200.pth'),
    ),
    neck=dict(embed_dim=384),
    decode_head=dict(in_channels=[384] * 4, channels=384),
    auxiliary_head=dict(in_channels=384),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)),
)
optim_wrapper = dict(optimizer=dict(lr=4e-4 * 8 / 16))
auto_scale_lr = dict(base_batch_size=8)
train_cfg = dict(max_iters=20000, val_interval=2000)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=20000)
default_hooks = dict(checkpoint=dict(interval=2000))
