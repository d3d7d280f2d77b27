# Your own classes, one GPU: train/<class>/* and val/<class>/* below data_root,
# the backbone from configs/pretrain/saim_vit-small-p16_..._folder.py.
#   --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT
#       model.head.num_classes=N
#       train_dataloader.dataset.data_root=/path/to/images
#       val_dataloader.dataset.data_root=/path/to/images
_base_ = ['vit-base-p16_8xb128-amp-coslr-100e_in1k.py']

model = dict(
    backbone=dict(
        arch='deit-small',
        init_cfg=dict(checkpoint='work_dirs/mine/epoch_200.pth'),
    ),
    head=dict(num_classes=10, in_channels=384),
    train_cfg=None,  # mixup and cutmix are for many images
)

dataset = dict(type='CustomDataset', data_root='data/mine/')
train_dataloader = dict(
    batch_size=64,
    drop_last=False,
    dataset=dict(
        _delete_=True,
        **dataset,
        data_prefix='train',
        pipeline=_base_.train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=64,
    dataset=dict(
        _delete_=True,
        **dataset,
        data_prefix='val',
        pipeline=_base_.test_pipeline,
    ),
)
val_evaluator = dict(topk=1)
test_dataloader = val_dataloader
test_evaluator = val_evaluator

optim_wrapper = dict(optimizer=dict(lr=5e-4 * 64 / 256))
auto_scale_lr = dict(base_batch_size=64)

train_cfg = dict(max_epochs=50)
param_scheduler = _base_.param_scheduler
param_scheduler[0].update(end=5)
param_scheduler[1].update(T_max=45, begin=5, end=50)
