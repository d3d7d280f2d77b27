# Blur of 9 pixels, sigma 1.5 (the default: sigma 1).
_base_ = ['../saim_vit-mini-p4_1xb128-coslr-20e_cifar10.py']

model = dict(target_generator=dict(kernel_size=9, sigma=1.5))
