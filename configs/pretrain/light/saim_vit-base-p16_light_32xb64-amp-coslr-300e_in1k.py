# A decoder of half the width, 66 % of SAIM's FLOPs (docs/study.md).
_base_ = ['../saim_vit-base-p16_32xb64-amp-coslr-300e_in1k.py']

model = dict(neck=dict(widen_factor=0.5))
