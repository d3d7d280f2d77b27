# CIFAR-10 on two CPU cores in a quarter of an hour: a smaller ViT, few epochs.
_base_ = [
    'saim_vit-tiny-p4_1xb512-amp-coslr-400e_cifar10.py',
    '../_base_/datasets/features.py',
]

model = dict(
    backbone=dict(
        arch=dict(
            _delete_=True,
            embed_dims=96,
            num_layers=4,
            num_heads=3,
            feedforward_channels=384,
        )
    )
)
train_dataloader = dict(batch_size=128, num_workers=1)
optim_wrapper = dict(type='OptimWrapper')  # too small to gain by bfloat16
auto_scale_lr = dict(base_batch_size=128)

test_pipeline = _base_.test_dataloader.dataset.pipeline
test_pipeline[1].update(scale=37)
test_pipeline[2].update(crop_size=32)
test_dataloader = dict(
    dataset=dict(data_root='data/cifar10/test/', pipeline=test_pipeline)
)
train_cfg = dict(max_epochs=5)
param_scheduler = _base_.param_scheduler
param_scheduler[0].update(end=1)
param_scheduler[1].update(T_max=4, begin=1, end=5)
default_hooks = dict(checkpoint=dict(interval=1))
