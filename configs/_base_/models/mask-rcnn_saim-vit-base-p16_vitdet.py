# Mask R-CNN on a plain ViT, as ViTDet has it: windows of 14 patches but in the
# last block of each quarter, a pyramid from the last map, two convolutions in
# the RPN, four in the box head, LayerNorm.
_base_ = ['mmdet::_base_/models/mask-rcnn_r50_fpn.py']

norm_cfg = dict(type='mmpretrain.LN2d', eps=1e-6)

model = dict(
    # Padded to 1024 x 1024, in training and after it: or the position
    # embedding would be squeezed onto each image that is tested.
    data_preprocessor=dict(pad_size_divisor=1024),
    backbone=dict(
        _delete_=True,
        type='SAIMViT',
        arch='base',
        img_size=1024,
        patch_size=16,
        out_type='featmap',
        with_cls_token=False,
        final_norm=False,
        drop_path_rate=0.1,
        window_size=14,
        use_rel_pos=True,
        interpolate_mode='bilinear',
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/saim/epoch_300.pth',
            prefix='backbone.',
        ),
    ),
    neck=dict(
        _delete_=True,
        type='SimpleFeaturePyramid',
        in_channels=768,
        out_channels=256,
    ),
    rpn_head=dict(num_convs=2),
    roi_head=dict(
        bbox_head=dict(
            type='Shared4Conv1FCBBoxHead',
            conv_out_channels=256,
            norm_cfg=norm_cfg,
        ),
        mask_head=dict(norm_cfg=norm_cfg),
    ),
)
