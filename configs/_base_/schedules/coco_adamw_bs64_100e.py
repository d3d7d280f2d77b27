# Table 8 of the paper. In float16, as ViTDet was trained (Li et al. 2021); on
# a CPU optim_wrapper.type=OptimWrapper
optim_wrapper = dict(
    type='AmpOptimWrapper',
    constructor='LayerDecayOptimWrapperConstructor',
    optimizer=dict(
        type='AdamW',
        lr=8e-5,
        betas=(0.9, 0.99),
        weight_decay=0.1,
        fused=True,
    ),
    paramwise_cfg=dict(
        layer_decay_rate=1.0,  # the paper has none; ViTDet 0.7 (ViT-B)
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys=dict(
            pos_embed=dict(decay_mult=0.0), rel_pos=dict(decay_mult=0.0)
        ),
    ),
)
auto_scale_lr = dict(enable=False, base_batch_size=64)

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=100, val_interval=5)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-3,
        by_epoch=True,
        begin=0,
        end=0.25,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=0.25,
        end=100,
        convert_to_iter_based=True,
    ),
]
