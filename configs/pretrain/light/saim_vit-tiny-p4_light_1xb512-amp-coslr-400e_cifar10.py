# A decoder of half the width, 66 % of SAIM's FLOPs (docs/study.md).
_base_ = ['../saim_vit-tiny-p4_1xb512-amp-coslr-400e_cifar10.py']

model = dict(neck=dict(widen_factor=0.5))
