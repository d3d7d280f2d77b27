# A quarter of the miniature's length: two CPU cores, a quarter of an hour.
_base_ = [
    'saim_vit-mini-p4_1xb128-coslr-20e_cifar10.py',
    '../_base_/datasets/features.py',
]

test_pipeline = _base_.test_dataloader.dataset.pipeline
test_pipeline[1].update(scale=37)
test_pipeline[2].update(crop_size=32)
test_dataloader = dict(
    dataset=dict(data_root='data/cifar10/test/', pipeline=test_pipeline)
)
train_cfg = dict(max_epochs=5)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=5)
