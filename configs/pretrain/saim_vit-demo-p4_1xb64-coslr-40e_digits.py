# The demo: a model so small that a laptop trains it in about a minute.
_base_ = [
    '../_base_/models/saim_vit-base-p16.py',
    '../_base_/datasets/imagenet_bs64_saim.py',
    '../_base_/schedules/demo_adamw_40e.py',
    '../_base_/saim_runtime.py',
]

model = dict(backbone=dict(arch='saim-mini', img_size=16, patch_size=4))
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
default_hooks = dict(
    logger=dict(interval=11), checkpoint=dict(interval=10, max_keep_ckpts=1)
)
