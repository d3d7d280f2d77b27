# Your own images with boxes and no masks; the rest as in the config below.
_base_ = [
    'mask-rcnn_saim-vit-small-p16_vitdet_1xb4-amp-lsj-50e_coco-format.py'
]

model = dict(
    type='FasterRCNN',
    data_preprocessor=dict(pad_mask=False),
    roi_head=dict(mask_roi_extractor=None, mask_head=None),
)

train_pipeline = _base_.train_pipeline
train_pipeline[1].update(with_mask=False)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
test_pipeline = _base_.test_pipeline
test_pipeline[2].update(with_mask=False)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
val_evaluator = dict(metric='bbox')
test_evaluator = dict(metric='bbox')
