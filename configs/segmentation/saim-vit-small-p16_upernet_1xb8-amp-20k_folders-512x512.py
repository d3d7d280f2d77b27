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
_base_ = ['saim-vit-base-p16_upernet_8xb2-amp-160k_ade20k-512x512.py']

model = dict(
    backbone=dict(
        arch='deit-small',
        init_cfg=dict(checkpoint='work_dirs/mine/epoch_200.pth'),
    ),
    neck=dict(embed_dim=384),
    decode_head=dict(in_channels=[384] * 4, channels=384),
    auxiliary_head=dict(in_channels=384),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadCheckedAnnotations'),
    dict(
        type='RandomResize',
        scale=(2048, 512),
        ratio_range=(0.5, 2.0),
        keep_ratio=True,
    ),
    dict(type='RandomCrop', crop_size=(512, 512), cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(2048, 512), keep_ratio=True),
    dict(type='LoadCheckedAnnotations'),
    dict(type='PackSegInputs'),
]
tta_pipeline = _base_.tta_pipeline
tta_pipeline[1]['transforms'][2] = [dict(type='LoadCheckedAnnotations')]
dataset = dict(type='ImageLabelFolders', data_root='data/mine/')
train_dataloader = dict(
    batch_size=8,
    num_workers=8,
    dataset=dict(
        _delete_=True,
        **dataset,
        data_prefix=dict(
            img_path='images/train', seg_map_path='annotations/train'
        ),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        **dataset,
        data_prefix=dict(
            img_path='images/val', seg_map_path='annotations/val'
        ),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

optim_wrapper = dict(optimizer=dict(lr=4e-4 * 8 / 16))
auto_scale_lr = dict(base_batch_size=8)
train_cfg = dict(max_iters=20000, val_interval=2000)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=20000)
default_hooks = dict(checkpoint=dict(interval=2000))
