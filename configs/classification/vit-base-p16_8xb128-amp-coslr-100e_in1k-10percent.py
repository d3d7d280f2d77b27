# Semi-supervised: fine-tuning with the labels of 10 % of ImageNet-1k. The list
# is SimCLR's, through mmpretrain's tools/dataset_converters/
# convert_imagenet_subsets.py.
_base_ = ['vit-base-p16_8xb128-amp-coslr-100e_in1k.py']

train_dataloader = dict(dataset=dict(ann_file='meta/train_10percent.txt'))
