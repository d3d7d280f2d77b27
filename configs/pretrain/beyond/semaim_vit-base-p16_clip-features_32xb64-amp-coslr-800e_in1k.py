# SemAIM with CLIP's features as the target and the eyes of the order. The
# checkpoint is OpenAI's ViT-B/16, renamed by mmpretrain's
# tools/model_converters/openai-clip_to_mmpretrain-clip.py.
_base_ = ['../saim_vit-base-p16_32xb64-amp-coslr-800e_in1k.py']

clip = 'work_dirs/clip_vit-base-p16.pth'
model = dict(
    order=dict(_delete_=True, type='SemanticOrder'),
    teacher=dict(
        type='FrozenTeacher',
        backbone=dict(
            type='VisionTransformer',
            arch='base',
            img_size=224,
            patch_size=16,
            pre_norm=True,
            layer_cfgs=dict(act_cfg=dict(type='QuickGELU')),
            out_type='raw',
            init_cfg=dict(type='Pretrained', checkpoint=clip, prefix='visual'),
        ),
        neck=dict(
            type='CLIPProjection',
            in_channels=768,
            out_channels=512,
            init_cfg=dict(
                type='Pretrained', checkpoint=clip, prefix='visual_proj'
            ),
        ),
    ),
    target_generator=dict(_delete_=True, type='FeatureTarget'),
    # 2 - 2 cos: the squared distance of both at length 1.
    head=dict(
        loss=dict(
            _delete_=True,
            type='CosineSimilarityLoss',
            shift_factor=2.0,
            scale_factor=2.0,
        )
    ),
)
optim_wrapper = dict(clip_grad=dict(max_norm=3.0))

# Their released code's; what SAIM's paper has is (0.67, 1.0).
train_dataloader = _base_.train_dataloader
train_dataloader.dataset.pipeline[0].crop_ratio_range = (0.2, 1.0)
