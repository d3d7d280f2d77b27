# Digits on photographs, with masks, on two CPU cores: 160 x 160 pixels.
# tools/dataset_converters/digit_scenes.py makes the data.
_base_ = [
    'mask-rcnn_saim-vit-small-p16_vitdet_1xb4-amp-lsj-50e_coco-format.py'
]

channels = 64

model = dict(
    data_preprocessor=dict(pad_size_divisor=16, batch_augments=None),
    backbone=dict(
        arch=dict(
            _delete_=True,
            embed_dims=192,
            num_layers=4,
            num_heads=3,
            feedforward_channels=768,
        ),
        img_size=160,
        patch_size=8,
        drop_path_rate=0.0,
        window_size=10,
        use_rel_pos=False,
        global_attn_indexes=[1, 3],
        init_cfg=dict(checkpoint='work_dirs/bccd/pretrain/iter_1000.pth'),
    ),
    neck=dict(in_channels=192, out_channels=channels, scales=(2, 1, 0.5)),
    rpn_head=dict(
        in_channels=channels,
        feat_channels=channels,
        anchor_generator=dict(scales=[4], strides=[4, 8, 16, 32]),
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(
            out_channels=channels, featmap_strides=[4, 8, 16]
        ),
        bbox_head=dict(
            in_channels=channels,
            conv_out_channels=channels,
            fc_out_channels=256,
            num_classes=10,
        ),
        mask_roi_extractor=dict(
            out_channels=channels, featmap_strides=[4, 8, 16]
        ),
        mask_head=dict(
            in_channels=channels,
            conv_out_channels=channels,
            num_convs=2,
            num_classes=10,
        ),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=500, max_per_img=200),
        rcnn=dict(sampler=dict(num=64)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=200)),
)

train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    dataset=dict(
        data_root='data/digit_scenes/',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
            dict(
                type='RandomResize',
                scale=(160, 160),
                ratio_range=(0.8, 1.25),
                keep_ratio=True,
            ),
            dict(type='RandomCrop', crop_size=(160, 160)),
            dict(type='PackDetInputs'),
        ],
    ),
)
test_pipeline = _base_.test_pipeline
test_pipeline[1].update(scale=(160, 160))
val_dataloader = dict(
    num_workers=1,
    dataset=dict(data_root='data/digit_scenes/', pipeline=test_pipeline),
)
test_dataloader = val_dataloader

optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(lr=5e-4, weight_decay=0.05)
)
auto_scale_lr = dict(base_batch_size=8)
train_cfg = dict(max_epochs=6, val_interval=3)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(T_max=5, end=6)
default_hooks = dict(logger=dict(interval=25))
