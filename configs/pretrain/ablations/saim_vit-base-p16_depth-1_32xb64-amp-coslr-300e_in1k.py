# A decoder of 1 block, no blur. The paper: 82.76.
_base_ = ['../saim_vit-base-p16_32xb64-amp-coslr-300e_in1k.py']

model = dict(
    neck=dict(depth=1),
    target_generator=dict(kernel_size=None),
)
