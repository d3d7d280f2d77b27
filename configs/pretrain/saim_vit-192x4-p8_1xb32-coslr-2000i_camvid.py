# CamVid's training images without their labels, on two CPU cores; for
# configs/segmentation/saim-vit-192x4-p8_..._camvid-240x320.py.
_base_ = [
    'saim_vit-192x4-p8_1xb32-coslr-1000i_bccd.py',
    '../_base_/datasets/features.py',
]

pipeline = _base_.train_dataloader.dataset.pipeline
pipeline[0].update(crop_ratio_range=(0.08, 0.4))
train_dataloader = dict(
    dataset=dict(data_root='data/camvid/images/train/', pipeline=pipeline)
)
test_dataloader = dict(dataset=dict(data_root='data/camvid/images/val/'))
train_cfg = dict(max_iters=2000)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=2000)
default_hooks = dict(checkpoint=dict(interval=500))
