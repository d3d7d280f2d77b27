# Table 7 of the paper. Learning rate: 5e-4 for every 256 images of the batch,
# times 0.65 for every block below the head.
optim_wrapper = dict(
    type='BFloat16OptimWrapper',
    constructor='LayerDecayOptimWrapperConstructor',
    optimizer=dict(
        type='AdamW',
        lr=5e-4 * 1024 / 256,
        betas=(0.9, 0.99),
        weight_decay=0.05,
        fused=True,
    ),
    paramwise_cfg=dict(
        layer_decay_rate=0.65,
        # As MAE's code, which the authors' follows: no decay of vectors.
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys=dict(
            cls_token=dict(decay_mult=0.0), pos_embed=dict(decay_mult=0.0)
        ),
    ),
)
auto_scale_lr = dict(base_batch_size=1024)

train_cfg = dict(by_epoch=True, max_epochs=100, val_interval=1)
val_cfg = dict()
test_cfg = dict()
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-4,
        by_epoch=True,
        begin=0,
        end=20,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-6,
        by_epoch=True,
        begin=20,
        end=100,
        convert_to_iter_based=True,
    ),
]
