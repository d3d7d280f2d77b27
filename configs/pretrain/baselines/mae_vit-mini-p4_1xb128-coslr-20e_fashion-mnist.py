# MAE on Fashion-MNIST, 28 x 28 pixels, 49 patches: the miniature.
_base_ = ['mae_vit-mini-p4_1xb128-coslr-20e_cifar10.py']

model = dict(backbone=dict(img_size=28), neck=dict(num_patches=49))
# The images of SAIM, cropped in batches.
data_preprocessor = dict(random_crop=dict(crop_ratio_range=(0.67, 1.0)))
train_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        _delete_=True,
        type='ImagesInMemory',
        data_root='data/fashion_mnist/train/',
    ),
)
