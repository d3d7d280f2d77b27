auto_scale_lr = dict(base_batch_size=8, enable=False)
camvid = dict(
    data_root='data/camvid/',
    metainfo=dict(
        classes=(
            'sky',
            'building',
            'pole',
            'road',
            'pavement',
            'tree',
            'sign',
            'fence',
            'car',
            'pedestrian',
            'bicyclist',
        ),
        palette=[
            [
                128,
                128,
                128,
            ],
            [
                128,
                0,
                0,
            ],
            [
                192,
                192,
                128,
            ],
            [
                128,
                64,
                128,
            ],
            [
                0,
                0,
                192,
            ],
            [
                128,
                128,
                0,
            ],
            [
                192,
                128,
                128,
            ],
            [
                64,
                64,
                128,
            ],
            [
                64,
                0,
                128,
            ],
            [
                64,
                64,
                0,
            ],
            [
                0,
                128,
                192,
            ],
        ]),
    type='ImageLabelFolders',
    void=[
        11,
    ])
custom_imports = dict(
    allow_failed_imports=False, imports=[
        'saim_mm.segmentation',
    ])
data_preprocessor = dict(
    _scope_='mmseg',
    bgr_to_rgb=True,
    mean=[
        123.675,
        116.28,
        103.53,
    ],
    pad_val=0,
    seg_pad_val=255,
    std=[
        58.395,
        57.12,
        57.375,
    ],
    type='SegDataPreProcessor')
default_hooks = dict(
    checkpoint=dict(
        by_epoch=False,
        interval=2,
        max_keep_ckpts=3,
        type='SafeCheckpointHook'),
    logger=dict(interval=1, log_metric_by_epoch=False, type='LoggerHook'),
    non_finite=dict(type='NonFiniteHook'),
    param_scheduler=dict(type='ParamSchedulerHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    step_seed=dict(type='StepSeedHook'),
    throughput=dict(type='ThroughputHook'),
    timer=dict(type='IterTimerHook'),
    visualization=dict(type='SegVisualizationHook'))
default_scope = 'mmseg'
env_cfg = dict(
    cudnn_benchmark=True,
    dist_cfg=dict(backend='nccl'),
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
load_from = None
log_level = 'INFO'
log_processor = dict(by_epoch=False)
model = dict(
    _scope_='mmseg',
    auxiliary_head=dict(
        align_corners=False,
        channels=64,
        concat_input=False,
        dropout_ratio=0.1,
        in_channels=24,
        in_index=2,
        loss_decode=dict(
            loss_weight=0.4, type='CrossEntropyLoss', use_sigmoid=False),
        norm_cfg=dict(requires_grad=True, type='SyncBN'),
        num_classes=11,
        num_convs=1,
        type='FCNHead'),
    backbone=dict(
        arch=dict(
            embed_dims=24, feedforward_channels=48, num_heads=3, num_layers=4),
        drop_path_rate=0.0,
        final_norm=False,
        img_size=(
            48,
            64,
        ),
        init_cfg=None,
        interpolate_mode='bilinear',
        out_indices=[
            0,
            1,
            2,
            3,
        ],
        out_type='featmap',
        patch_size=8,
        type='SAIMViT'),
    data_preprocessor=dict(
        bgr_to_rgb=True,
        mean=[
            123.675,
            116.28,
            103.53,
        ],
        pad_val=0,
        seg_pad_val=255,
        size=(
            48,
            64,
        ),
        std=[
            58.395,
            57.12,
            57.375,
        ],
        type='SegDataPreProcessor'),
    decode_head=dict(
        align_corners=False,
        channels=64,
        dropout_ratio=0.1,
        in_channels=[
            24,
            24,
            24,
            24,
        ],
        in_index=[
            0,
            1,
            2,
            3,
        ],
        loss_decode=dict(
            loss_weight=1.0, type='CrossEntropyLoss', use_sigmoid=False),
        norm_cfg=dict(requires_grad=True, type='SyncBN'),
        num_classes=11,
        pool_scales=(
            1,
            2,
            3,
            6,
        ),
        type='UPerHead'),
    neck=dict(
        embed_dim=24, rescales=[
            2,
            1,
            0.5,
            0.25,
        ], type='Feature2Pyramid'),
    pretrained=None,
    test_cfg=dict(mode='whole'),
    train_cfg=dict(),
    type='EncoderDecoder')
norm_cfg = dict(_scope_='mmseg', requires_grad=True, type='SyncBN')
optim_wrapper = dict(
    constructor='LayerDecayOptimWrapperConstructor',
    optimizer=dict(
        betas=(
            0.9,
            0.99,
        ),
        fused=True,
        lr=0.0005,
        type='AdamW',
        weight_decay=0.05),
    paramwise_cfg=dict(
        bias_decay_mult=0.0,
        custom_keys=dict(
            cls_token=dict(decay_mult=0.0),
            pos_embed=dict(decay_mult=0.0),
            rel_pos=dict(decay_mult=0.0)),
        layer_decay_rate=1.0,
        norm_decay_mult=0.0),
    type='OptimWrapper')
param_scheduler = []
randomness = dict(seed=0)
resume = False
runner_type = 'SAIMRunner'
test_cfg = dict(type='TestLoop')
test_dataloader = dict(
    batch_size=4,
    dataset=dict(
        data_prefix=dict(
            img_path='images/val', seg_map_path='annotations/val'),
        data_root='/tmp/explore/bt/mmseg0/data',
        metainfo=dict(
            classes=(
                'sky',
                'building',
                'pole',
                'road',
                'pavement',
                'tree',
                'sign',
                'fence',
                'car',
                'pedestrian',
                'bicyclist',
            ),
            palette=[
                [
                    128,
                    128,
                    128,
                ],
                [
                    128,
                    0,
                    0,
                ],
                [
                    192,
                    192,
                    128,
                ],
                [
                    128,
                    64,
                    128,
                ],
                [
                    0,
                    0,
                    192,
                ],
                [
                    128,
                    128,
                    0,
                ],
                [
                    192,
                    128,
                    128,
                ],
                [
                    64,
                    64,
                    128,
                ],
                [
                    64,
                    0,
                    128,
                ],
                [
                    64,
                    64,
                    0,
                ],
                [
                    0,
                    128,
                    192,
                ],
            ]),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadCheckedAnnotations'),
            dict(type='PackSegInputs'),
        ],
        type='ImageLabelFolders',
        void=[
            11,
        ]),
    num_workers=0,
    persistent_workers=False,
    sampler=dict(shuffle=False, type='DefaultSampler'))
test_evaluator = dict(
    iou_metrics=[
        'mIoU',
    ], type='IoUMetric')
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadCheckedAnnotations'),
    dict(type='PackSegInputs'),
]
train_cfg = dict(max_iters=2, type='IterBasedTrainLoop', val_interval=1)
train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        data_prefix=dict(
            img_path='images/train', seg_map_path='annotations/train'),
        data_root='/tmp/explore/bt/mmseg0/data',
        metainfo=dict(
            classes=(
                'sky',
                'building',
                'pole',
                'road',
                'pavement',
                'tree',
                'sign',
                'fence',
                'car',
                'pedestrian',
                'bicyclist',
            ),
            palette=[
                [
                    128,
                    128,
                    128,
                ],
                [
                    128,
                    0,
                    0,
                ],
                [
                    192,
                    192,
                    128,
                ],
                [
                    128,
                    64,
                    128,
                ],
                [
                    0,
                    0,
                    192,
                ],
                [
                    128,
                    128,
                    0,
                ],
                [
                    192,
                    128,
                    128,
                ],
                [
                    64,
                    64,
                    128,
                ],
                [
                    64,
                    0,
                    128,
                ],
                [
                    64,
                    64,
                    0,
                ],
                [
                    0,
                    128,
                    192,
                ],
            ]),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadCheckedAnnotations'),
            dict(
                keep_ratio=True,
                ratio_range=(
                    1.0,
                    1.5,
                ),
                scale=(
                    64,
                    48,
                ),
                type='RandomResize'),
            dict(crop_size=(
                48,
                64,
            ), type='RandomCrop'),
            dict(prob=0.5, type='RandomFlip'),
            dict(type='PhotoMetricDistortion'),
            dict(type='PackSegInputs'),
        ],
        type='ImageLabelFolders',
        void=[
            11,
        ]),
    num_workers=0,
    persistent_workers=False,
    sampler=dict(shuffle=True, type='InfiniteSampler'))
tta_model = dict(_scope_='mmseg', type='SegTTAModel')
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        transforms=[
            [
                dict(keep_ratio=True, scale_factor=0.75, type='Resize'),
                dict(keep_ratio=True, scale_factor=1.0, type='Resize'),
                dict(keep_ratio=True, scale_factor=1.25, type='Resize'),
            ],
            [
                dict(prob=0.0, type='RandomFlip'),
                dict(prob=1.0, type='RandomFlip'),
            ],
            [
                dict(type='LoadCheckedAnnotations'),
            ],
            [
                dict(type='PackSegInputs'),
            ],
        ],
        type='TestTimeAug'),
]
val_cfg = dict(type='ValLoop')
val_dataloader = dict(
    batch_size=4,
    dataset=dict(
        data_prefix=dict(
            img_path='images/val', seg_map_path='annotations/val'),
        data_root='/tmp/explore/bt/mmseg0/data',
        metainfo=dict(
            classes=(
                'sky',
                'building',
                'pole',
                'road',
                'pavement',
                'tree',
                'sign',
                'fence',
                'car',
                'pedestrian',
                'bicyclist',
            ),
            palette=[
                [
                    128,
                    128,
                    128,
                ],
                [
                    128,
                    0,
                    0,
                ],
                [
                    192,
                    192,
                    128,
                ],
                [
                    128,
                    64,
                    128,
                ],
                [
                    0,
                    0,
                    192,
                ],
                [
                    128,
                    128,
                    0,
                ],
                [
                    192,
                    128,
                    128,
                ],
                [
                    64,
                    64,
                    128,
                ],
                [
                    64,
                    0,
                    128,
                ],
                [
                    64,
                    64,
                    0,
                ],
                [
                    0,
                    128,
                    192,
                ],
            ]),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadCheckedAnnotations'),
            dict(type='PackSegInputs'),
        ],
        type='ImageLabelFolders',
        void=[
            11,
        ]),
    num_workers=0,
    persistent_workers=False,
    sampler=dict(shuffle=False, type='DefaultSampler'))
val_evaluator = dict(
    iou_metrics=[
        'mIoU',
    ], type='IoUMetric')
vis_backends = [
    dict(_scope_='mmseg', type='LocalVisBackend'),
]
visualizer = dict(
    _scope_='mmseg',
    name='visualizer',
    type='SegLocalVisualizer',
    vis_backends=[
        dict(type='LocalVisBackend'),
    ])
work_dir = '/tmp/explore/bt/mmseg0/work'
