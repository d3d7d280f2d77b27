# A decoder of half the width, 68 % of SAIM's FLOPs (docs/study.md).
_base_ = ['../saim_vit-mini-p4_1xb128-coslr-20e_cifar10.py']

model = dict(neck=dict(widen_factor=0.5))
