# SAIM's images with their labels.
_base_ = ['cifar10_bs512_saim.py']

data_preprocessor = dict(type='ClsDataPreprocessor', num_classes=10)
train_dataloader = dict(
    sampler=dict(_delete_=True, type='DefaultSampler', shuffle=True),
    dataset=dict(type='CustomDataset', with_label=True),
)
