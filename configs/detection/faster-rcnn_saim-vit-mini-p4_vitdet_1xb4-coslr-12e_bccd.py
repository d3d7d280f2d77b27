# Blood cells with the miniature's encoder, which CIFAR-10 has pre-trained:
# patches of 4 pixels, maps of strides 4, 8, and 16 by pooling. All four blocks
# attend to the whole image; the windows of 20 are for larger encoders.
_base_ = ['faster-rcnn_saim-vit-192x4-p8_vitdet_1xb4-coslr-12e_bccd.py']

model = dict(
    backbone=dict(
        arch='saim-mini',
        patch_size=4,
        window_size=20,
        global_attn_indexes=[0, 1, 2, 3],
        init_cfg=dict(
            checkpoint='saim_mm://'
            'saim_vit-mini-p4_stochastic_1xb128-coslr-20e_cifar10'
        ),
    ),
    neck=dict(in_channels=96, scales=[1, 0.5]),
    rpn_head=dict(anchor_generator=dict(scales=[8], strides=[4, 8, 16])),
    roi_head=dict(bbox_roi_extractor=dict(featmap_strides=[4, 8])),
)
