# ViT-L, which the paper does not train. Drop path and layer-wise decay are
# ViTDet's for ViT-L.
_base_ = ['mask-rcnn_saim-vit-base-p16_vitdet_8xb8-amp-lsj-100e_coco.py']

model = dict(
    backbone=dict(arch='large', drop_path_rate=0.4),
    neck=dict(in_channels=1024),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.8))
