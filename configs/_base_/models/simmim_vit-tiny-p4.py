# SimMIM, mmpretrain's, on ViT-Ti.
model = dict(
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
