# Random orders without blur, the baseline of some. Its weights are shipped.
_base_ = [
    '../saim_vit-mini-p4_1xb128-coslr-20e_cifar10.py',
    '../../_base_/datasets/features.py',
]

model = dict(target_generator=dict(kernel_size=None))

test_pipeline = _base_.test_dataloader.dataset.pipeline
test_pipeline[1].update(scale=37)
test_pipeline[2].update(crop_size=32)
test_dataloader = dict(
    dataset=dict(data_root='data/cifar10/test/', pipeline=test_pipeline)
)
