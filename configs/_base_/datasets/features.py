# What mmpretrain's FeatureExtractor does with an image of 96 pixels; as
# saim_mm's does. Pre-training tests nothing, so there is nothing to evaluate.
test_dataloader = dict(
    batch_size=32,
    num_workers=1,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='UnlabelledImages',
        data_root='data/images/',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(
                type='ResizeEdge',
                scale=110,
                backend='pillow',
                interpolation='bicubic',
            ),
            dict(type='CenterCrop', crop_size=96),
            dict(type='PackInputs'),
        ],
    ),
)
test_cfg = dict()
test_evaluator = []
