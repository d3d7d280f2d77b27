# Efficient probing (Psomas et al. 2026) on CIFAR-10 on two CPU cores.
_base_ = ['vit-mini-p4_1xb128-linear-coslr-5e_cifar10.py']

model = dict(
    backbone=dict(out_type='raw'),
    neck=[
        dict(type='EfficientProbing', embed_dims=96),
        dict(type='ClsBatchNormNeck', input_features=96),
    ],
)
# The queries start at a fiftieth of the tokens' size.
optim_wrapper = dict(
    _delete_=True,
    type='BFloat16OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.0),
    paramwise_cfg=dict(custom_keys={'neck.0.query': dict(lr_mult=10)}),
)
