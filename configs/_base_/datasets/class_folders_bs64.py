# A folder for each class in train/ and val/, seen as ImageNet's in Table 7.
_base_ = ['mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py']

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='CustomDataset',
        data_root='data/mine/',
        data_prefix='train',
        pipeline=_base_.train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='CustomDataset',
        data_root='data/mine/',
        data_prefix='val',
        pipeline=_base_.test_pipeline,
    )
)
val_evaluator = dict(topk=1)
test_dataloader = val_dataloader
test_evaluator = val_evaluator
