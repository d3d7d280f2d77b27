# MSE of pixels that are not normalised. The paper: 83.14.
_base_ = ['../saim_vit-base-p16_32xb64-amp-coslr-300e_in1k.py']

model = dict(target_generator=dict(normalize=False))
