# Two views of SAIM's images. As these have 32 x 32 pixels, views are not
# blurred and show 20 % of one at least (MoCo v3's own: 8 %).
_base_ = ['cifar10_bs512_saim.py']

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
