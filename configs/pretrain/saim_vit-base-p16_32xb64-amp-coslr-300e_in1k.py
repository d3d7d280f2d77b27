# The paper's pre-training: Table 6.
_base_ = [
    '../_base_/models/saim_vit-base-p16.py',
    '../_base_/datasets/imagenet_bs64_saim.py',
    '../_base_/schedules/saim_adamw_bs2048_coslr.py',
    '../_base_/saim_runtime.py',
]
