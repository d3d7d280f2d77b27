# Blur of 9 pixels, sigma 1.5 (the default: sigma 1). The paper: 83.45.
_base_ = ['../saim_vit-base-p16_32xb64-amp-coslr-300e_in1k.py']

model = dict(target_generator=dict(kernel_size=9, sigma=1.5))
