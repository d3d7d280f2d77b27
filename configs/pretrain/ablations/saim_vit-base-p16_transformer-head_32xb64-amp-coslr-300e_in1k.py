# A prediction head of two blocks (the default: an MLP). The paper: 83.50.
_base_ = ['../saim_vit-base-p16_32xb64-amp-coslr-300e_in1k.py']

model = dict(head=dict(predictor='transformer'))
