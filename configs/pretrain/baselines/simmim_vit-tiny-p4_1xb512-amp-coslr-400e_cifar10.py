# SimMIM, mmpretrain's, on the data and in the time of SAIM.
_base_ = ['../saim_vit-tiny-p4_1xb512-amp-coslr-400e_cifar10.py']

model = dict(
    _delete_=True,
    type='SimMIM',
    backbone=dict(
        type='SimMIMViT', arch='deit-tiny', img_size=32, patch_size=4
    ),
    neck=dict(type='SimMIMLinearDecoder', in_channels=192, encoder_stride=4),
    head=dict(
        type='SimMIMHead',
        patch_size=4,
        loss=dict(type='PixelReconstructionLoss', criterion='L1', channel=3),
    ),
)

train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(
                type='LoadRandomResizedCrop',
                scale=32,
                crop_ratio_range=(0.67, 1.0),
            ),
            dict(type='RandomFlip', prob=0.5),
            # 2 x 2 patches at a time, as the paper's 32 of 16 pixels
            dict(
                type='SimMIMMaskGenerator',
                input_size=32,
                mask_patch_size=8,
                model_patch_size=4,
                mask_ratio=0.6,
            ),
            dict(type='PackInputs'),
        ]
    )
)
