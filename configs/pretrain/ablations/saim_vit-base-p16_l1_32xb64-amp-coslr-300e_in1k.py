# L1 of pixels that are not normalised. The paper: 83.02.
_base_ = ['../saim_vit-base-p16_32xb64-amp-coslr-300e_in1k.py']

model = dict(
    head=dict(loss=dict(criterion='L1')),
    target_generator=dict(normalize=False),
)
