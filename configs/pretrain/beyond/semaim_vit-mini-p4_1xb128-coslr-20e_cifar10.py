# SemAIM (Song et al., AAAI 2024): the encoder looks at the whole image first;
# patches come in the order of their distance from the one that it finds most
# important.
_base_ = ['../saim_vit-mini-p4_1xb128-coslr-20e_cifar10.py']

model = dict(order=dict(_delete_=True, type='SemanticOrder'))
optim_wrapper = dict(clip_grad=dict(max_norm=3.0))
