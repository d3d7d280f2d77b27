# A decoder of 1 block, no blur.
_base_ = ['../saim_vit-mini-p4_1xb128-coslr-20e_cifar10.py']

model = dict(
    neck=dict(depth=1),
    target_generator=dict(kernel_size=None),
)
