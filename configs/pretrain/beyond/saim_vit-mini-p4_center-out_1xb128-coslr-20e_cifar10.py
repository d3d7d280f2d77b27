# From the middle outwards, in rings, at random within each.
_base_ = ['../saim_vit-mini-p4_1xb128-coslr-20e_cifar10.py']

model = dict(order='center_out')
