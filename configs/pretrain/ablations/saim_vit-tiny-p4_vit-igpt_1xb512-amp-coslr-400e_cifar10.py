# ViT-iGPT: row by row, no decoder, no blur.
_base_ = ['../saim_vit-tiny-p4_1xb512-amp-coslr-400e_cifar10.py']

model = dict(
    order='raster',
    neck=dict(depth=0),
    target_generator=dict(kernel_size=None),
)
