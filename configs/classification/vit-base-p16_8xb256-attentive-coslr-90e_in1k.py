# Attentive probing (AIM) on ImageNet-1k: one query attends to the mean of the
# last six blocks of a frozen encoder; the rest as in efficient probing.
#   --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT
_base_ = ['vit-base-p16_8xb256-efficient-coslr-90e_in1k.py']

model = dict(
    backbone=dict(out_indices=list(range(6, 12))),
    neck=[
        dict(
            type='AttentivePooling',
            embed_dims=768,
            num_heads=12,
            num_blocks=6,
        ),
        dict(type='ClsBatchNormNeck', input_features=768),
    ],
)
