# Digits on photographs, with masks, on two CPU cores: 160 x 160 pixels.
#   --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT
# From scratch: model.backbone.init_cfg=None
_base_ = [
    '../_base_/models/mask-rcnn_saim-vit-192x4-p8_vitdet.py',
    '../_base_/datasets/digit-scenes.py',
    '../_base_/schedules/small-det_adamw_bs8_6e.py',
    '../_base_/saim_runtime_det.py',
]

default_hooks = dict(logger=dict(interval=25))
