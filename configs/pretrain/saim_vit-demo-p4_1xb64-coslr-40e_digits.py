# The demo: a model so small that a laptop trains it in about a minute.
_base_ = [
    '../_base_/models/saim_vit-base-p16.py',
    '../_base_/datasets/imagenet_bs64_saim.py',
    '../_base_/saim_runtime.py',
]

model = dict(
    backbone=dict(
        arch=dict(
            _delete_=True,
            embed_dims=96,
            num_layers=4,
            num_heads=3,
            feedforward_channels=384,
        ),
        img_size=16,
        patch_size=4,
    )
)

train_dataloader = dict(
    num_workers=1,
    dataset=dict(
        data_root='data/digits/train/',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(16, 16), interpolation='bicubic'),
            dict(
                type='RandomResizedCrop',
                scale=16,
                crop_ratio_range=(0.67, 1.0),
                interpolation='bicubic',
            ),
            dict(type='PackInputs'),
        ],
    ),
)

optim_wrapper = dict(
    optimizer=dict(
        type='AdamW', lr=1e-3, betas=(0.9, 0.95), weight_decay=0.05
    ),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
auto_scale_lr = dict(base_batch_size=64)

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=40)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=0.01,
        by_epoch=True,
        begin=0,
        end=4,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        T_max=36,
        by_epoch=True,
        begin=4,
        end=40,
        convert_to_iter_based=True,
    ),
]

default_hooks = dict(
    logger=dict(interval=11), checkpoint=dict(interval=10, max_keep_ckpts=1)
)
