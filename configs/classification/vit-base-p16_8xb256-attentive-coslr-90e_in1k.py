# Attentive probing (AIM) on ImageNet-1k: learned queries attend to the
# tokens of a frozen encoder; then BatchNorm and a linear layer.
#   --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT
_base_ = ['vit-base-p16_8xb256-linear-coslr-90e_in1k.py']

model = dict(
    backbone=dict(out_type='raw'),
    neck=[
        dict(type='AttentivePooling', embed_dims=768, num_heads=12),
        dict(type='ClsBatchNormNeck', input_features=768),
    ],
)
optim_wrapper = dict(
    optimizer=dict(
        _delete_=True,
        type='mmpretrain.LARS',
        lr=0.1 * 2048 / 256,
        momentum=0.9,
        weight_decay=0.0,
    )
)
