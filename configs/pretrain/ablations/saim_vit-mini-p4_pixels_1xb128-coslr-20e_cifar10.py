# Every pixel a token, as iGPT: raster, no decoder, 32 x 32.
_base_ = ['../saim_vit-mini-p4_1xb128-coslr-20e_cifar10.py']

model = dict(
    order='raster',
    backbone=dict(img_size=32, patch_size=1),
    neck=dict(depth=0),
    # One pixel has nothing to be normalised with.
    target_generator=dict(kernel_size=None, normalize=False),
)
