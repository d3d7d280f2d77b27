# Attentive probing (AIM) on ImageNet-1k: one query attends to the mean of the
# last six blocks of a frozen encoder; then BatchNorm and a linear layer.
#   --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT
_base_ = ['vit-base-p16_8xb256-linear-coslr-90e_in1k.py']

model = dict(
    backbone=dict(out_type='raw', out_indices=list(range(6, 12))),
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
optim_wrapper = dict(
    optimizer=dict(
        _delete_=True,
        type='mmpretrain.LARS',
        lr=0.1 * 2048 / 256,
        momentum=0.9,
        weight_decay=0.0,
    )
)
