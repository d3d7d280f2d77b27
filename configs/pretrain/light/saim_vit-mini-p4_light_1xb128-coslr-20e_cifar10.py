# A lighter decoder, 64 % of SAIM's FLOPs: half as deep, each block reads a
# learned mixture of the encoder's, and only the last half of the patches is
# predicted (docs/study.md).
_base_ = ['../saim_vit-mini-p4_1xb128-coslr-20e_cifar10.py']

model = dict(predict_ratio=0.5, neck=dict(depth=2, mix_layers=True))
