# Digits on photographs; tools/dataset_converters/digit_scenes.py makes them.
_base_ = ['coco-format_lsj-1024.py']

train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    dataset=dict(
        data_root='data/digit_scenes/',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
            dict(
                type='RandomResize',
                scale=(160, 160),
                ratio_range=(0.8, 1.25),
                keep_ratio=True,
            ),
            dict(type='RandomCrop', crop_size=(160, 160)),
            dict(type='PackDetInputs'),
        ],
    ),
)
test_pipeline = _base_.test_pipeline
test_pipeline[1].update(scale=(160, 160))
val_dataloader = dict(
    num_workers=1,
    dataset=dict(data_root='data/digit_scenes/', pipeline=test_pipeline),
)
test_dataloader = val_dataloader
