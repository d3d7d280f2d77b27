# The demo on any folder of images: 64 x 64 pixels, 500 steps however many
# images there are.
#   --cfg-options train_dataloader.dataset.data_root=/path/to/images
_base_ = ['saim_vit-demo-p4_1xb64-coslr-40e_digits.py']

model = dict(backbone=dict(img_size=64, patch_size=8))

train_dataloader = dict(
    sampler=dict(type='ReproducibleSampler', infinite=True),
    dataset=dict(
        data_root='data/images/',
        pipeline=[
            dict(
                type='LoadRandomResizedCrop',
                scale=64,
                crop_ratio_range=(0.67, 1.0),
            ),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackInputs'),
        ],
    ),
)

optim_wrapper = dict(type='BFloat16OptimWrapper')
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=500)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=50, end=500),
]

default_hooks = dict(
    logger=dict(interval=10), checkpoint=dict(by_epoch=False, interval=100)
)
log_processor = dict(by_epoch=False)
