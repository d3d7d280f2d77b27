# A decoder of 2 blocks, no blur.
_base_ = ['../saim_vit-mini-p4_1xb128-coslr-20e_cifar10.py']

model = dict(
    neck=dict(depth=2),
    target_generator=dict(kernel_size=None),
)
