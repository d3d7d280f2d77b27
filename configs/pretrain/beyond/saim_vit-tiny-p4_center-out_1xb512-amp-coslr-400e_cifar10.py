# From the middle outwards, in rings, at random within each.
_base_ = ['../saim_vit-tiny-p4_1xb512-amp-coslr-400e_cifar10.py']

model = dict(order='center_out')
