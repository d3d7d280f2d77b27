# Your own images with boxes and masks in COCO's format, one GPU; the backbone
# from configs/pretrain/saim_vit-small-p16_..._folder.py. Below data_root:
# train/ and val/ with the images, train.json and val.json. The classes are
# those of the files, N of them:
#   --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT
#       model.roi_head.bbox_head.num_classes=N
#       model.roi_head.mask_head.num_classes=N
#       train_dataloader.dataset.data_root=/path/to/data
#       val_dataloader.dataset.data_root=/path/to/data
_base_ = [
    '../_base_/models/mask-rcnn_saim-vit-base-p16_vitdet.py',
    '../_base_/datasets/coco-format_lsj-1024.py',
    '../_base_/schedules/coco_adamw_bs64_100e.py',
    '../_base_/saim_runtime_det.py',
]

model = dict(
    backbone=dict(
        arch='deit-small',
        init_cfg=dict(checkpoint='work_dirs/mine/epoch_200.pth'),
    ),
    neck=dict(in_channels=384),
)

optim_wrapper = dict(optimizer=dict(lr=8e-5 * 4 / 64))
auto_scale_lr = dict(base_batch_size=4)

train_cfg = dict(max_epochs=50)
param_scheduler = _base_.param_scheduler
param_scheduler[0].update(end=1)  # a quarter of a small epoch is no step
param_scheduler[1].update(begin=1, end=50)
