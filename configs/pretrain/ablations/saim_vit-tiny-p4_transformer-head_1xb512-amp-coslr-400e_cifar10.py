# A prediction head of two blocks (the default: an MLP).
_base_ = ['../saim_vit-tiny-p4_1xb512-amp-coslr-400e_cifar10.py']

model = dict(head=dict(predictor='transformer'))
