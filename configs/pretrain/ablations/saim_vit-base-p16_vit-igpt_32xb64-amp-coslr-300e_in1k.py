# ViT-iGPT: row by row, no decoder, no blur. The paper: 82.70.
_base_ = ['../saim_vit-base-p16_32xb64-amp-coslr-300e_in1k.py']

model = dict(
    order='raster',
    neck=dict(depth=0),
    target_generator=dict(kernel_size=None),
)
