_base_ = ['mmpretrain::_base_/datasets/imagenet_bs512_mae.py']

# The paper's crop; the authors' released code has (0.2, 1.0).
train_pipeline = [
    # The boxes of LoadImageFromFile and RandomResizedCrop with
    # backend='pillow', nearly the same pixels, in half the time and less.
    dict(
        type='LoadRandomResizedCrop',
        scale=224,
        crop_ratio_range=(0.67, 1.0),
        aspect_ratio_range=(3.0 / 4.0, 4.0 / 3.0),
        interpolation='bicubic',
    ),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackInputs'),
]

train_dataloader = dict(
    batch_size=64,
    drop_last=True,
    sampler=dict(_delete_=True, type='ReproducibleSampler'),
    # An inherited one carries a scope, which MMEngine hands to the function.
    collate_fn=dict(_delete_=True, type='default_collate'),
    dataset=dict(
        _delete_=True,
        type='UnlabelledImages',
        data_root='data/imagenet/train/',
        pipeline=train_pipeline,
    ),
)
