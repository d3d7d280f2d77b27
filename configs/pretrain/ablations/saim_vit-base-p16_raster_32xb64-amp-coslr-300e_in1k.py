# Row by row, with a decoder, no blur. The paper: 82.76.
_base_ = ['../saim_vit-base-p16_32xb64-amp-coslr-300e_in1k.py']

model = dict(
    order='raster',
    target_generator=dict(kernel_size=None),
)
