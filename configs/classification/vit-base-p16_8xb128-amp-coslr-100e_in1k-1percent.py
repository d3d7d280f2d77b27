# As with 10 % of the labels, with 1 %.
_base_ = ['vit-base-p16_8xb128-amp-coslr-100e_in1k-10percent.py']

train_dataloader = dict(dataset=dict(ann_file='meta/train_1percent.txt'))
