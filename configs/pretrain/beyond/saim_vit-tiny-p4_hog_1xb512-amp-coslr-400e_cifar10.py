# The target is MaskFeat's: histograms of oriented gradients of each patch.
_base_ = ['../saim_vit-tiny-p4_1xb512-amp-coslr-400e_cifar10.py']

model = dict(target_generator=dict(_delete_=True, type='HOGTarget'))
