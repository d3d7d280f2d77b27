# Blood cells with a ViT-Ti that CIFAR-10 has pre-trained.
_base_ = ['faster-rcnn_saim-vit-mini-p4_vitdet_1xb4-coslr-12e_bccd.py']

model = dict(
    backbone=dict(
        arch='deit-tiny',
        global_attn_indexes=[2, 5, 8, 11],
        init_cfg=dict(
            checkpoint='work_dirs/study/saim/seed-0/pretrain/epoch_400.pth'
        ),
    ),
    neck=dict(in_channels=192),
)
