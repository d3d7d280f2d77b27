# RandSAC (Hua et al. 2022): squares of 2 x 2 patches in random order, the
# patches of each predicted in parallel. Everything else is SAIM's.
_base_ = ['../saim_vit-base-p16_32xb64-amp-coslr-300e_in1k.py']

model = dict(segment_size=2)
