# MSE of pixels that are not normalised.
_base_ = ['../saim_vit-mini-p4_1xb128-coslr-20e_cifar10.py']

model = dict(target_generator=dict(normalize=False))
