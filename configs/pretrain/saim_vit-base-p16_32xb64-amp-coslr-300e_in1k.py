_base_ = [
    '../_base_/models/saim_vit-base-p16.py',
    '../_base_/datasets/imagenet_bs64_saim.py',
    '../_base_/schedules/saim_adamw_bs2048_coslr.py',
    '../_base_/saim_runtime.py',
]

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=300)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=0.0001,
        by_epoch=True,
        begin=0,
        end=30,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        T_max=270,
        by_epoch=True,
        begin=30,
        end=300,
        convert_to_iter_based=True,
    ),
]
