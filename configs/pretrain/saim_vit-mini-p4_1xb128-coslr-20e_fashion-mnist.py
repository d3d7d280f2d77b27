# The miniature on Fashion-MNIST, 28 x 28 pixels, 49 patches;
# tools/dataset_converters/fashion_mnist.py makes it.
_base_ = ['saim_vit-mini-p4_1xb128-coslr-20e_cifar10.py']

model = dict(backbone=dict(img_size=28))
pipeline = _base_.train_dataloader.dataset.pipeline
pipeline[0].update(scale=28)
train_dataloader = dict(
    dataset=dict(data_root='data/fashion_mnist/train/', pipeline=pipeline)
)
