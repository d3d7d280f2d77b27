# Decoder blocks are the encoder's, no blur. The paper: 83.02.
_base_ = ['../saim_vit-base-p16_32xb64-amp-coslr-300e_in1k.py']

model = dict(
    neck=dict(share_weights=True),
    target_generator=dict(kernel_size=None),
)
