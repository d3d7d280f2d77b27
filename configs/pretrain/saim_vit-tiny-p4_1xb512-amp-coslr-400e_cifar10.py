# CIFAR-10 on one GPU: ViT-Ti with patches of 4 pixels.
_base_ = [
    '../_base_/models/saim_vit-base-p16.py',
    '../_base_/datasets/imagenet_bs64_saim.py',
    '../_base_/schedules/saim_adamw_bs2048_coslr.py',
    '../_base_/saim_runtime.py',
]

model = dict(backbone=dict(arch='deit-tiny', img_size=32, patch_size=4))

train_dataloader = dict(
    batch_size=512,
    dataset=dict(
        data_root='data/cifar10/train/',
        pipeline=[
            dict(
                type='LoadRandomResizedCrop',
                scale=32,
                crop_ratio_range=(0.67, 1.0),
            ),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackInputs'),
        ],
    ),
)

optim_wrapper = dict(optimizer=dict(lr=1e-3))
auto_scale_lr = dict(base_batch_size=512)

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=400)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=0.0001,
        by_epoch=True,
        begin=0,
        end=20,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        T_max=380,
        by_epoch=True,
        begin=20,
        end=400,
        convert_to_iter_based=True,
    ),
]

default_hooks = dict(checkpoint=dict(interval=20))
