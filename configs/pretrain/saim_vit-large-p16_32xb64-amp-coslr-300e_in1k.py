_base_ = ['saim_vit-base-p16_32xb64-amp-coslr-300e_in1k.py']

# The paper trains ViT-B only; these are its settings on ViT-L.
model = dict(backbone=dict(arch='large'))
