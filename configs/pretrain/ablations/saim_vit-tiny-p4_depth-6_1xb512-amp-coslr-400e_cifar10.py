# A decoder of 6 blocks, no blur.
_base_ = ['../saim_vit-tiny-p4_1xb512-amp-coslr-400e_cifar10.py']

model = dict(
    neck=dict(depth=6),
    target_generator=dict(kernel_size=None),
)
