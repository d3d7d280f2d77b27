# MoCo v3, mmpretrain's, on the data and in the time of SAIM. As images are of
# 32 x 32 pixels, views are not blurred and show 20 % of one at least (its own:
# 8 %), and the projector is a quarter as wide.
_base_ = ['../saim_vit-tiny-p4_1xb512-amp-coslr-400e_cifar10.py']

projector = dict(
    type='NonLinearNeck',
    in_channels=192,
    hid_channels=1024,
    out_channels=256,
    num_layers=3,
    with_bias=False,
    with_last_bn=True,
    with_last_bn_affine=False,
    with_last_bias=False,
    with_avg_pool=False,
)
temperature = 0.2
model = dict(
    _delete_=True,
    type='MoCoV3',
    base_momentum=0.01,
    backbone=dict(
        type='MoCoV3ViT',
        arch='deit-tiny',
        img_size=32,
        patch_size=4,
        stop_grad_conv1=True,
    ),
    neck=projector,
    head=dict(
        type='MoCoV3Head',
        predictor=dict(projector, in_channels=256, num_layers=2),
        loss=dict(type='CrossEntropyLoss', loss_weight=2 * temperature),
        temperature=temperature,
    ),
)

view = [
    dict(type='RandomResizedCrop', scale=32, crop_ratio_range=(0.2, 1.0)),
    dict(
        type='RandomApply',
        transforms=[
            dict(
                type='ColorJitter',
                brightness=0.4,
                contrast=0.4,
                saturation=0.2,
                hue=0.1,
            )
        ],
        prob=0.8,
    ),
    dict(
        type='RandomGrayscale',
        prob=0.2,
        keep_channels=True,
        channel_weights=(0.114, 0.587, 0.2989),
    ),
    dict(type='RandomFlip', prob=0.5),
]
solarized = [*view, dict(type='Solarize', thr=128, prob=0.2)]
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(
                type='MultiView',
                num_views=[1, 1],
                transforms=[view, solarized],
            ),
            dict(type='PackInputs'),
        ]
    )
)
