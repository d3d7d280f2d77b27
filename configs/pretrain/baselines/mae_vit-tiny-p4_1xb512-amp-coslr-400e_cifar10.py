# MAE, mmpretrain's, on the data and in the time of SAIM.
_base_ = ['../saim_vit-tiny-p4_1xb512-amp-coslr-400e_cifar10.py']

model = dict(
    _delete_=True,
    type='MAE',
    backbone=dict(
        type='MAEViT',
        arch='deit-tiny',
        img_size=32,
        patch_size=4,
        mask_ratio=0.75,
    ),
    # As deep as the paper's, and of two thirds of the encoder's width.
    neck=dict(
        type='MAEPretrainDecoder',
        num_patches=64,
        patch_size=4,
        embed_dim=192,
        decoder_embed_dim=128,
        decoder_depth=8,
        decoder_num_heads=4,
    ),
    head=dict(
        type='MAEPretrainHead',
        norm_pix=True,
        patch_size=4,
        loss=dict(type='PixelReconstructionLoss', criterion='L2'),
    ),
    init_cfg=[
        dict(type='Xavier', layer='Linear', distribution='uniform'),
        dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
    ],
)
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys=dict(
            cls_token=dict(decay_mult=0.0), mask_token=dict(decay_mult=0.0)
        )
    )
)
