# Linear probing on Fashion-MNIST, 28 x 28 pixels, on two CPU cores.
_base_ = ['vit-mini-p4_1xb128-linear-coslr-5e_cifar10.py']

model = dict(backbone=dict(img_size=28))
pipeline = _base_.train_dataloader.dataset.pipeline
pipeline[1].update(crop_size=28)
train_dataloader = dict(
    dataset=dict(data_root='data/fashion_mnist/', pipeline=pipeline)
)
val_dataloader = dict(
    dataset=dict(data_root='data/fashion_mnist/', data_prefix='val')
)
test_dataloader = val_dataloader
