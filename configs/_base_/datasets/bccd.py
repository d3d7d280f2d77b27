# Blood cells, 320 x 240 pixels; tools/dataset_converters/voc.py makes them.
_base_ = ['coco-format_lsj-1024.py']

image_size = (320, 240)
train_dataloader = dict(
    num_workers=1,
    dataset=dict(
        data_root='data/bccd/',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='Resize', scale=image_size, keep_ratio=True),
            dict(
                type='RandomFlip',
                prob=[0.25, 0.25, 0.25],
                direction=['horizontal', 'vertical', 'diagonal'],
            ),
            dict(type='PackDetInputs'),
        ],
    ),
)
test_pipeline = _base_.test_pipeline
test_pipeline[1].update(scale=image_size)
test_pipeline[2].update(with_mask=False)
val_dataloader = dict(
    num_workers=1,
    dataset=dict(data_root='data/bccd/', pipeline=test_pipeline),
)
test_dataloader = dict(
    num_workers=1,
    dataset=dict(
        data_root='data/bccd/',
        ann_file='test.json',
        data_prefix=dict(img='test/'),
        pipeline=test_pipeline,
    ),
)
val_evaluator = dict(metric='bbox')
test_evaluator = dict(metric='bbox')
