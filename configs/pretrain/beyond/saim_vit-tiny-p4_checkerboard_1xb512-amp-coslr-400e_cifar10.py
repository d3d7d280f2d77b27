# The black squares of a chessboard first, then the white ones.
_base_ = ['../saim_vit-tiny-p4_1xb512-amp-coslr-400e_cifar10.py']

model = dict(order='checkerboard')
