# Attentive probing (AIM) on your own classes: the folders and options of
# vit-small-p16_1xb64-amp-coslr-50e_folder.py, the encoder frozen.
_base_ = ['vit-small-p16_1xb64-amp-coslr-50e_folder.py']

model = dict(
    backbone=dict(
        out_type='raw',
        out_indices=list(range(6, 12)),
        frozen_stages=12,
        drop_path_rate=0.0,
    ),
    neck=[
        dict(
            type='AttentivePooling',
            embed_dims=384,
            num_heads=6,
            num_blocks=6,
        ),
        dict(type='ClsBatchNormNeck', input_features=384),
    ],
    head=dict(init_cfg=dict(std=0.01)),
)
# The query starts at a fiftieth of the tokens' size.
optim_wrapper = dict(
    _delete_=True,
    type='BFloat16OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.0),
    paramwise_cfg=dict(custom_keys={'neck.0.query': dict(lr_mult=10)}),
)
