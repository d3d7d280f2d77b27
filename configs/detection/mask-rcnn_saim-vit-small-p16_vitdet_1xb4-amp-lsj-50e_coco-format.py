# Your own images with boxes and masks in COCO's format, one GPU; the backbone
# from configs/pretrain/saim_vit-small-p16_..._folder.py. Below data_root:
# train/ and val/ with the images, train.json and val.json. The classes are
# those of the files, N of them:
#   --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT
#       model.roi_head.bbox_head.num_classes=N
#       model.roi_head.mask_head.num_classes=N
#       train_dataloader.dataset.data_root=/path/to/data
#       val_dataloader.dataset.data_root=/path/to/data
_base_ = ['mask-rcnn_saim-vit-base-p16_vitdet_8xb8-amp-lsj-100e_coco.py']

model = dict(
    backbone=dict(
        arch='deit-small',
        init_cfg=dict(checkpoint='work_dirs/mine/epoch_200.pth'),
    ),
    neck=dict(in_channels=384),
)

dataset = dict(type='COCOFormat', data_root='data/mine/')
train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    dataset=dict(
        _delete_=True,
        **dataset,
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
        **dataset,
        ann_file='val.json',
        data_prefix=dict(img='val/'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
val_evaluator = dict(_delete_=True, type='CocoMetric', metric=['bbox', 'segm'])
test_dataloader = val_dataloader
test_evaluator = val_evaluator

optim_wrapper = dict(optimizer=dict(lr=8e-5 * 4 / 64))
auto_scale_lr = dict(base_batch_size=4)

train_cfg = dict(max_epochs=50)
param_scheduler = _base_.param_scheduler
param_scheduler[0].update(end=1)  # a quarter of a small epoch is no step
param_scheduler[1].update(T_max=49, begin=1, end=50)
