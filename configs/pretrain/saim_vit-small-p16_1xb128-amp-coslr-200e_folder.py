# Any folder of images, one GPU. Point it at yours:
#   --cfg-options train_dataloader.dataset.data_root=/path/to/images
# More memory, more images: model.backbone.arch=base, and for another batch
# size train_dataloader.batch_size=256 --auto-scale-lr.
_base_ = [
    '../_base_/models/saim_vit-base-p16.py',
    '../_base_/datasets/imagenet_bs64_saim.py',
    '../_base_/schedules/saim_adamw_bs2048_coslr.py',
    '../_base_/saim_runtime.py',
]

model = dict(backbone=dict(arch='deit-small'))
train_dataloader = dict(batch_size=128, dataset=dict(data_root='data/images/'))

optim_wrapper = dict(optimizer=dict(lr=2e-4 * 128 / 256))
auto_scale_lr = dict(base_batch_size=128)

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=200)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=0.0001,
        by_epoch=True,
        begin=0,
        end=20,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        T_max=180,
        by_epoch=True,
        begin=20,
        end=200,
        convert_to_iter_based=True,
    ),
]
