# Your own images in COCO's format, with COCO's large-scale jitter. Below
# data_root: train/, val/, train.json, val.json.
_base_ = ['coco_lsj-1024.py']

train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    dataset=dict(
        _delete_=True,
        type='COCOFormat',
        data_root='data/mine/',
        ann_file='train.json',
        data_prefix=dict(img='train/'),
        pipeline=_base_.train_pipeline,
    ),
)
# The evaluator takes the truth from the dataset, so its path is set once.
test_pipeline = _base_.test_pipeline
test_pipeline[-1].update(
    meta_keys=(*test_pipeline[-1]['meta_keys'], 'instances')
)
tta_pipeline = _base_.tta_pipeline
pack = tta_pipeline[1]['transforms'][-1][0]
pack.update(meta_keys=(*pack['meta_keys'], 'instances'))
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='COCOFormat',
        data_root='data/mine/',
        ann_file='val.json',
        data_prefix=dict(img='val/'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
val_evaluator = dict(_delete_=True, type='CocoMetric', metric=['bbox', 'segm'])
test_dataloader = val_dataloader
test_evaluator = val_evaluator
