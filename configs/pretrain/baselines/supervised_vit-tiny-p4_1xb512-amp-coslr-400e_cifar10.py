# With labels, on the images and in the time of SAIM.
_base_ = ['../saim_vit-tiny-p4_1xb512-amp-coslr-400e_cifar10.py']

model = dict(
    _delete_=True,
    type='ImageClassifier',
    backbone=dict(type='SAIMViT', arch='deit-tiny', img_size=32, patch_size=4),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=192,
        loss=dict(type='CrossEntropyLoss'),
    ),
)
data_preprocessor = dict(type='ClsDataPreprocessor', num_classes=10)
train_dataloader = dict(
    sampler=dict(_delete_=True, type='DefaultSampler', shuffle=True),
    dataset=dict(type='CustomDataset', with_label=True),
)
