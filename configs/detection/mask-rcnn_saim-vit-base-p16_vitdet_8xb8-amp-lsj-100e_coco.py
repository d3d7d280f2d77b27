# Table 8 of the paper, with ViTDet's adaptation of the ViT.
#   --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT
# Layer-wise decay: optim_wrapper.paramwise_cfg.layer_decay_rate=0.7
_base_ = [
    '../_base_/models/mask-rcnn_saim-vit-base-p16_vitdet.py',
    '../_base_/datasets/coco_lsj-1024.py',
    '../_base_/schedules/coco_adamw_bs64_100e.py',
    '../_base_/saim_runtime_det.py',
]
