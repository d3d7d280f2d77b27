# Table 9 of the paper, following BEiT.
#   --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT
# With a relative position bias, as BEiT's: model.backbone.use_rel_pos=True
# The whole image at once rather than in windows: model.test_cfg.mode=whole
# Several scales and flips: --tta
_base_ = [
    '../_base_/mmseg.py',
    '../_base_/models/upernet_saim-vit-base-p16.py',
    'mmseg::_base_/datasets/ade20k.py',
    '../_base_/schedules/ade20k_adamw_bs16_160k.py',
    '../_base_/saim_runtime_seg.py',
]

model = dict(
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341))
)
train_dataloader = dict(batch_size=2)
