# The miniature on Fashion-MNIST, 28 x 28 pixels, 49 patches, cropped in
# batches; tools/dataset_converters/fashion_mnist.py makes it.
_base_ = [
    '../_base_/models/saim_vit-base-p16.py',
    '../_base_/datasets/cifar10-in-memory_bs512_saim.py',
    '../_base_/schedules/cifar10_adamw_bs128_20e.py',
    '../_base_/saim_runtime.py',
]

model = dict(backbone=dict(arch='saim-mini', img_size=28, patch_size=4))
train_dataloader = dict(
    batch_size=128,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root='data/fashion_mnist/train/'),
)
