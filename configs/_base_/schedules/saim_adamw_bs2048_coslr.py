# Table 6 of the paper. Learning rate: 2e-4 for every 256 images of the batch.
optim_wrapper = dict(
    type='BFloat16OptimWrapper',
    constructor='MergedOptimWrapperConstructor',
    optimizer=dict(
        type='AdamW',
        lr=2e-4 * 2048 / 256,
        betas=(0.9, 0.95),
        weight_decay=0.05,
        fused=True,
    ),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)

# Used with --auto-scale-lr.
auto_scale_lr = dict(base_batch_size=2048)

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
        by_epoch=True,
        begin=30,
        end=300,
        convert_to_iter_based=True,
    ),
]
