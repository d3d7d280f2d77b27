# Row by row, with a decoder, no blur.
_base_ = ['../saim_vit-tiny-p4_1xb512-amp-coslr-400e_cifar10.py']

model = dict(
    order='raster',
    target_generator=dict(kernel_size=None),
)
