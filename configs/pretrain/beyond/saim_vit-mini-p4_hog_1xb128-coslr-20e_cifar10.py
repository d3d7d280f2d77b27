# The target is MaskFeat's: histograms of oriented gradients of each patch.
_base_ = ['../saim_vit-mini-p4_1xb128-coslr-20e_cifar10.py']

model = dict(target_generator=dict(_delete_=True, type='HOGTarget'))
