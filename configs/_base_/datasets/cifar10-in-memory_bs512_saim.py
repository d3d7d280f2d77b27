# CIFAR-10 without its labels, decoded once, cropped and flipped in batches:
# cifar10_bs512_saim.py takes six times as long for an image (docs/speed.md).
_base_ = ['imagenet_bs64_saim.py']

data_preprocessor = dict(random_crop=dict(crop_ratio_range=(0.67, 1.0)))
train_dataloader = dict(
    batch_size=512,
    num_workers=2,
    dataset=dict(
        _delete_=True, type='ImagesInMemory', data_root='data/cifar10/train/'
    ),
)
