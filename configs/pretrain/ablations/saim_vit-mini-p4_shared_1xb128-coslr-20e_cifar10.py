# Decoder blocks are the encoder's, no blur.
_base_ = ['../saim_vit-mini-p4_1xb128-coslr-20e_cifar10.py']

model = dict(
    neck=dict(share_weights=True),
    target_generator=dict(kernel_size=None),
)
