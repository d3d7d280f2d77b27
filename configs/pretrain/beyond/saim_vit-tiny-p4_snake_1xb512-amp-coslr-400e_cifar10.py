# Row by row, alternately from left to right and back.
_base_ = ['../saim_vit-tiny-p4_1xb512-amp-coslr-400e_cifar10.py']

model = dict(order='snake')
