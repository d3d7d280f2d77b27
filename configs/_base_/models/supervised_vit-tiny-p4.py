# A ViT with labels, as a bound of what pre-training without can reach.
model = dict(
    type='ImageClassifier',
    backbone=dict(type='SAIMViT', arch='deit-tiny', img_size=32, patch_size=4),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=192,
        loss=dict(type='CrossEntropyLoss'),
    ),
)
