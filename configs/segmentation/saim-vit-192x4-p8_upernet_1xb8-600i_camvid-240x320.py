# CamVid on two CPU cores: a small ViT.
# tools/dataset_converters/camvid.py makes data/camvid.
#   --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT
# From scratch: model.backbone.init_cfg=None
_base_ = [
    '../_base_/mmseg.py',
    '../_base_/models/upernet_saim-vit-base-p16.py',
    '../_base_/datasets/camvid.py',
    '../_base_/schedules/ade20k_adamw_bs16_160k.py',
    '../_base_/saim_runtime_seg.py',
]

model = dict(
    data_preprocessor=dict(size=(240, 320)),
    backbone=dict(
        arch='saim-192x4',
        img_size=(240, 320),
        patch_size=8,
        out_indices=[0, 1, 2, 3],
        drop_path_rate=0.0,
        init_cfg=dict(checkpoint='work_dirs/camvid/pretrain/iter_2000.pth'),
    ),
    # Strides 4, 8, 16, 32.
    neck=dict(embed_dim=192, rescales=[2, 1, 0.5, 0.25]),
    decode_head=dict(in_channels=[192] * 4, channels=64, num_classes=11),
    auxiliary_head=dict(in_channels=192, channels=64, num_classes=11),
)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(lr=5e-4),
    # In so few steps the lower blocks would hardly move at decayed rates.
    paramwise_cfg=dict(layer_decay_rate=1.0),
)
train_cfg = dict(max_iters=600, val_interval=200)
param_scheduler = _base_.param_scheduler
param_scheduler[0].update(end=50)
param_scheduler[1].update(begin=50, end=600)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=200))
auto_scale_lr = dict(base_batch_size=8)
