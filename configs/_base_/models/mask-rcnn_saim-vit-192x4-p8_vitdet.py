# ViTDet's Mask R-CNN so small that CPUs train it: images of 160 x 160 pixels,
# windows of 10 patches of 8 pixels, maps of 64 channels and strides 4 to 32.
_base_ = ['mask-rcnn_saim-vit-base-p16_vitdet.py']

channels = 64
extractor = dict(out_channels=channels, featmap_strides=[4, 8, 16])

model = dict(
    data_preprocessor=dict(pad_size_divisor=16),
    backbone=dict(
        arch='saim-192x4',
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
        bbox_roi_extractor=extractor,
        bbox_head=dict(
            in_channels=channels,
            conv_out_channels=channels,
            fc_out_channels=256,
            num_classes=10,
        ),
        mask_roi_extractor=extractor,
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
