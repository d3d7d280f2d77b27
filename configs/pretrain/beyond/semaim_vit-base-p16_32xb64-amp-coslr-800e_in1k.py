# SemAIM (Song et al., AAAI 2024): the encoder looks at the whole image first;
# patches come in the order of their distance from the one that it finds most
# important.
_base_ = ['../saim_vit-base-p16_32xb64-amp-coslr-800e_in1k.py']

model = dict(order=dict(_delete_=True, type='SemanticOrder'))
optim_wrapper = dict(clip_grad=dict(max_norm=3.0))

# Their released code's; what SAIM's paper has is (0.67, 1.0).
train_dataloader = _base_.train_dataloader
train_dataloader.dataset.pipeline[0].crop_ratio_range = (0.2, 1.0)
