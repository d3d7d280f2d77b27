# CamVid with a ViT-Ti that CIFAR-10 has pre-trained.
_base_ = ['saim-vit-mini-p4_upernet_1xb8-600i_camvid-240x320.py']

model = dict(
    backbone=dict(
        arch='deit-tiny',
        out_indices=[2, 5, 8, 11],
        init_cfg=dict(
            checkpoint='work_dirs/study/saim/seed-0/pretrain/epoch_400.pth'
        ),
    ),
    neck=dict(embed_dim=192),
    decode_head=dict(in_channels=[192] * 4),
    auxiliary_head=dict(in_channels=192),
)
