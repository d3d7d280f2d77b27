_base_ = ['vit-base-p16_8xb256-linear-coslr-90e_in1k.py']

# Linear probing as MAE does it: LARS, batch 16,384.
train_dataloader = dict(batch_size=2048)
optim_wrapper = dict(
    optimizer=dict(
        _delete_=True,
        type='mmpretrain.LARS',
        lr=0.1 * 16384 / 256,
        momentum=0.9,
        weight_decay=0.0,
    )
)
auto_scale_lr = dict(base_batch_size=16384)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-4,
        by_epoch=True,
        begin=0,
        end=10,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=10,
        end=90,
        convert_to_iter_based=True,
    ),
]
