# Row by row, with a decoder, no blur.
_base_ = ['../saim_vit-mini-p4_1xb128-coslr-20e_fashion-mnist.py']

model = dict(
    order='raster',
    target_generator=dict(kernel_size=None),
)
