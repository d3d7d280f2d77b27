# RandSAC (Hua et al. 2022): squares of 2 x 2 patches in random order, the
# patches of each predicted in parallel. Everything else is SAIM's.
_base_ = ['../saim_vit-mini-p4_1xb128-coslr-20e_cifar10.py']

model = dict(segment_size=2)
