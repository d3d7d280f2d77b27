_base_ = ['saim_vit-base-p16_32xb64-amp-coslr-300e_in1k.py']

train_cfg = dict(max_epochs=1600)
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
        T_max=1570,
        by_epoch=True,
        begin=30,
        end=1600,
        convert_to_iter_based=True,
    ),
]
