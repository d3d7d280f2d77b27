# Decoder blocks are the encoder's, no blur.
_base_ = ['../saim_vit-tiny-p4_1xb512-amp-coslr-400e_cifar10.py']

model = dict(
    neck=dict(share_weights=True),
    target_generator=dict(kernel_size=None),
)
