# CamVid with the miniature's encoder, which CIFAR-10 has pre-trained.
_base_ = ['saim-vit-192x4-p8_upernet_1xb8-600i_camvid-240x320.py']

model = dict(
    backbone=dict(
        arch='saim-mini',
        patch_size=4,
        init_cfg=dict(
            checkpoint='saim_mm://'
            'saim_vit-mini-p4_stochastic_1xb128-coslr-20e_cifar10'
        ),
    ),
    neck=dict(embed_dim=96),  # strides 2, 4, 8, 16
    decode_head=dict(in_channels=[96] * 4),
    auxiliary_head=dict(in_channels=96),
)
