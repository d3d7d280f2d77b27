# SAIM as the paper trains it. Neck, head and target take what follows from
# the backbone (arch, patch size, channels) from the backbone.
model = dict(
    type='SAIM',
    order='stochastic',
    backbone=dict(type='SAIMViT', arch='base', img_size=224, patch_size=16),
    neck=dict(type='SAIMDecoder'),  # as deep as the encoder
    head=dict(
        type='SAIMHead',
        predictor='mlp',
        loss=dict(type='PixelReconstructionLoss', criterion='L2'),
    ),
    target_generator=dict(
        type='SmoothedPatchTarget', kernel_size=9, sigma=1.0, normalize=True
    ),
)
