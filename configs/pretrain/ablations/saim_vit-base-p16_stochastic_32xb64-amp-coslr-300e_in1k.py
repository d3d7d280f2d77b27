# Random orders without blur, the baseline of some. The paper: 83.40.
_base_ = ['../saim_vit-base-p16_32xb64-amp-coslr-300e_in1k.py']

model = dict(target_generator=dict(kernel_size=None))
