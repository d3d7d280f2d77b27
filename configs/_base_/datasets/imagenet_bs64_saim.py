# ImageNet-1k without its labels. Mean and deviation are ImageNet's, in RGB.
data_preprocessor = dict(
    type='PixelPreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True,
)

train_dataloader = dict(
    batch_size=64,
    num_workers=8,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='ReproducibleSampler'),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='UnlabelledImages',
        data_root='data/imagenet/train/',
        pipeline=[
            # The boxes of LoadImageFromFile and RandomResizedCrop with
            # backend='pillow', nearly the same pixels, in half the time. The
            # paper's crop; the authors' released code has (0.2, 1.0).
            dict(
                type='LoadRandomResizedCrop',
                scale=224,
                crop_ratio_range=(0.67, 1.0),
                aspect_ratio_range=(3.0 / 4.0, 4.0 / 3.0),
                interpolation='bicubic',
            ),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackInputs'),
        ],
    ),
)
