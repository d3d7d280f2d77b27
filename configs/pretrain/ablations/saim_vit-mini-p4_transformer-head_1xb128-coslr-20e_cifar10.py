# A prediction head of two blocks (the default: an MLP).
_base_ = ['../saim_vit-mini-p4_1xb128-coslr-20e_cifar10.py']

model = dict(head=dict(predictor='transformer'))
