# ViT-L, which the paper does not train; blocks and drop path are BEiT-L's,
# the decay is ViTDet-L's.
_base_ = ['saim-vit-base-p16_upernet_8xb2-amp-160k_ade20k-512x512.py']

channels = [1024] * 4

model = dict(
    backbone=dict(
        arch='large', out_indices=[7, 11, 15, 23], drop_path_rate=0.2
    ),
    neck=dict(embed_dim=1024),
    decode_head=dict(in_channels=channels, channels=1024),
    auxiliary_head=dict(in_channels=1024),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.8))
