# Row by row, alternately from left to right and back.
_base_ = ['../saim_vit-mini-p4_1xb128-coslr-20e_cifar10.py']

model = dict(order='snake')
