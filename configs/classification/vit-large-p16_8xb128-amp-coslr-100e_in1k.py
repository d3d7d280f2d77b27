_base_ = ['vit-base-p16_8xb128-amp-coslr-100e_in1k.py']

# The paper fine-tunes ViT-B only; these are its settings on ViT-L.
model = dict(backbone=dict(arch='large'), head=dict(in_channels=1024))
