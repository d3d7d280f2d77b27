# MAE on Fashion-MNIST, 28 x 28 pixels, 49 patches: the miniature.
_base_ = ['mae_vit-mini-p4_1xb128-coslr-20e_cifar10.py']

model = dict(backbone=dict(img_size=28), neck=dict(num_patches=49))
pipeline = _base_.train_dataloader.dataset.pipeline
pipeline[0].update(scale=28)
train_dataloader = dict(
    dataset=dict(data_root='data/fashion_mnist/train/', pipeline=pipeline)
)
