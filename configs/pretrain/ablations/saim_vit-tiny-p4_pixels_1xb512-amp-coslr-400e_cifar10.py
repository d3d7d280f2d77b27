# Every pixel a token, as iGPT: raster, no decoder, 32 x 32.
_base_ = ['../saim_vit-tiny-p4_1xb512-amp-coslr-400e_cifar10.py']

model = dict(
    order='raster',
    backbone=dict(img_size=32, patch_size=1),
    neck=dict(depth=0),
    # One pixel has nothing to be normalised with.
    target_generator=dict(kernel_size=None, normalize=False),
)
