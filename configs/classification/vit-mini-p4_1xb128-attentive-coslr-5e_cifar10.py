# Attentive probing (AIM) on CIFAR-10 on two CPU cores: of the last block.
_base_ = ['vit-mini-p4_1xb128-efficient-coslr-5e_cifar10.py']

model = dict(
    neck=[
        dict(type='AttentivePooling', embed_dims=96, num_heads=3),
        dict(type='ClsBatchNormNeck', input_features=96),
    ],
)
