# Attentive probing (AIM) on your own classes: one query attends to the mean of
# the last six blocks; the rest as in efficient probing.
_base_ = ['vit-small-p16_1xb64-efficient-amp-coslr-50e_folder.py']

model = dict(
    backbone=dict(out_indices=list(range(6, 12))),
    neck=[
        dict(
            type='AttentivePooling',
            embed_dims=384,
            num_heads=6,
            num_blocks=6,
        ),
        dict(type='ClsBatchNormNeck', input_features=384),
    ],
)
