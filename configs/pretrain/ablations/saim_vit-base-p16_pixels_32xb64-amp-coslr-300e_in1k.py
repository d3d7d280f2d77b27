# Every pixel a token, as iGPT: raster, no decoder, 32 x 32. The paper: 72.90.
_base_ = ['../saim_vit-base-p16_32xb64-amp-coslr-300e_in1k.py']

model = dict(
    order='raster',
    backbone=dict(img_size=32, patch_size=1),
    neck=dict(depth=0),
    # One pixel has nothing to be normalised with.
    target_generator=dict(kernel_size=None, normalize=False),
)

pipeline = _base_.train_dataloader.dataset.pipeline
pipeline[0].update(scale=32)
train_dataloader = dict(dataset=dict(pipeline=pipeline))
