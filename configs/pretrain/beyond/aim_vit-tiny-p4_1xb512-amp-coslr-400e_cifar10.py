# AIM's task (El-Nouby et al. 2024) for SAIM's encoder and head: row by row,
# without decoder; the first patches, a random number of them, see each other
# and are not predicted.
_base_ = ['../saim_vit-tiny-p4_1xb512-amp-coslr-400e_cifar10.py']

model = dict(
    order='raster',
    prefix='random',
    neck=dict(depth=0),
    target_generator=dict(kernel_size=None),
)
