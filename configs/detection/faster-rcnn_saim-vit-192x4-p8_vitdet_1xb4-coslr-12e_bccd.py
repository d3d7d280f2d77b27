# Blood cells on two CPU cores: boxes, 320 x 240 pixels.
#   --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT
# From scratch: model.backbone.init_cfg=None
_base_ = [
    '../_base_/models/mask-rcnn_saim-vit-192x4-p8_vitdet.py',
    '../_base_/datasets/bccd.py',
    '../_base_/schedules/small-det_adamw_bs8_6e.py',
    '../_base_/saim_runtime_det.py',
]

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
auto_scale_lr = dict(base_batch_size=4)
train_cfg = dict(max_epochs=12)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=12)
default_hooks = dict(logger=dict(interval=10))
