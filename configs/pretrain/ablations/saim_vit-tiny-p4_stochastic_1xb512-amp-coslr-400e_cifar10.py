# Random orders without blur, the baseline of some.
_base_ = ['../saim_vit-tiny-p4_1xb512-amp-coslr-400e_cifar10.py']

model = dict(target_generator=dict(kernel_size=None))
