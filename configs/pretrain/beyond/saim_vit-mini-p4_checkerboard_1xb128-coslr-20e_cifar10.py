# The black squares of a chessboard first, then the white ones.
_base_ = ['../saim_vit-mini-p4_1xb128-coslr-20e_cifar10.py']

model = dict(order='checkerboard')
