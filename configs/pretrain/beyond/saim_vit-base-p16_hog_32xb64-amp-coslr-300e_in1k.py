# The target is MaskFeat's: histograms of oriented gradients of each patch.
_base_ = ['../saim_vit-base-p16_32xb64-amp-coslr-300e_in1k.py']

model = dict(target_generator=dict(_delete_=True, type='HOGTarget'))
