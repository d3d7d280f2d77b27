# CIFAR-10 without its labels; tools/dataset_converters/cifar10.py makes it.
_base_ = ['imagenet_bs64_saim.py']

train_dataloader = dict(
    batch_size=512,
    dataset=dict(
        data_root='data/cifar10/train/',
        pipeline=[
            dict(
                type='LoadRandomResizedCrop',
                scale=32,
                crop_ratio_range=(0.67, 1.0),
            ),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackInputs'),
        ],
    ),
)
