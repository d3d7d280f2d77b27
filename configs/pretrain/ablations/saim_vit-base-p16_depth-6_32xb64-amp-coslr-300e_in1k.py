# A decoder of 6 blocks, no blur. The paper: 83.01.
_base_ = ['../saim_vit-base-p16_32xb64-amp-coslr-300e_in1k.py']

model = dict(
    neck=dict(depth=6),
    target_generator=dict(kernel_size=None),
)
