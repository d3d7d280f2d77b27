# Random orders without blur, the baseline of some.
_base_ = ['../saim_vit-mini-p4_1xb128-coslr-20e_fashion-mnist.py']

model = dict(target_generator=dict(kernel_size=None))
