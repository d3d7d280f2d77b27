# ViT-iGPT: row by row, no decoder, no blur.
_base_ = ['../saim_vit-mini-p4_1xb128-coslr-20e_cifar10.py']

model = dict(
    order='raster',
    neck=dict(depth=0),
    target_generator=dict(kernel_size=None),
)
