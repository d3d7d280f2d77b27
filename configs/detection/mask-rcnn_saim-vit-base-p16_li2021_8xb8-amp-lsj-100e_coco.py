# Table 8 of the paper, with Li et al. 2021's adaptation of the ViT in its
# all-global form: every block attends to the whole image, and an FPN takes the
# maps of four equally spaced blocks. Attention is fused and needs no
# activation checkpointing for its memory (backbone.with_cp=True adds it).
# Li et al.'s windows: model.backbone.window_size=14
_base_ = ['mask-rcnn_saim-vit-base-p16_vitdet_8xb8-amp-lsj-100e_coco.py']

model = dict(
    backbone=dict(window_size=0, use_rel_pos=False, out_indices=[2, 5, 8, 11]),
    neck=dict(
        _delete_=True,
        type='MultiBlockFPN',
        in_channels=768,
        out_channels=256,
        num_outs=5,
        norm_cfg=dict(type='mmpretrain.LN2d', eps=1e-6),
    ),
)
