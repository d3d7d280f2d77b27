# Blood cells on two CPU cores: boxes, 320 x 240 pixels.
# tools/dataset_converters/voc.py makes data/bccd.
#   --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT
# From scratch: model.backbone.init_cfg=None
_base_ = ['mask-rcnn_saim-vit-192x4-p8_vitdet_1xb8-coslr-6e_digit-scenes.py']

image_size = (320, 240)

model = dict(
    type='FasterRCNN',
    data_preprocessor=dict(pad_mask=False),
    backbone=dict(img_size=(240, 320)),
    roi_head=dict(
        bbox_head=dict(num_classes=3), mask_roi_extractor=None, mask_head=None
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=1000, max_per_img=300),
        rcnn=dict(sampler=dict(num=128)),
    ),
    test_cfg=dict(rpn=dict(max_per_img=300)),
)

train_dataloader = dict(
    batch_size=4,
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
    dataset=dict(data_root='data/bccd/', pipeline=test_pipeline)
)
test_dataloader = dict(
    dataset=dict(
        data_root='data/bccd/',
        ann_file='test.json',
        data_prefix=dict(img='test/'),
        pipeline=test_pipeline,
    )
)
val_evaluator = dict(metric='bbox')
test_evaluator = dict(metric='bbox')

auto_scale_lr = dict(base_batch_size=4)
train_cfg = dict(max_epochs=12, val_interval=3)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(T_max=11, end=12)
default_hooks = dict(logger=dict(interval=10))
