# Blur of 3 pixels, sigma 1 (the default: 9 pixels, sigma 1). The paper: 83.52.
_base_ = ['../saim_vit-base-p16_32xb64-amp-coslr-300e_in1k.py']

model = dict(target_generator=dict(kernel_size=3, sigma=1.0))
