# A classifier on the class token of a pre-trained SAIMViT.
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='SAIMViT',
        arch='base',
        img_size=224,
        patch_size=16,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/saim/epoch_300.pth',
            prefix='backbone.',
        ),
    ),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=768,
        loss=dict(type='CrossEntropyLoss'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=2e-5),
    ),
)
