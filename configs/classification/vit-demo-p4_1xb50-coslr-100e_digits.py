# The demo's classifier: 100 labelled images, ten of each digit. It starts
# from scratch, or from a pre-training checkpoint:
#   --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT
#       model.backbone.init_cfg.type=Pretrained
#       model.backbone.init_cfg.prefix=backbone.
_base_ = [
    '../_base_/datasets/digits.py',
    '../_base_/schedules/demo_adamw_40e.py',
    '../_base_/saim_runtime.py',
]

model = dict(
    type='ImageClassifier',
    backbone=dict(type='SAIMViT', arch='saim-mini', img_size=16, patch_size=4),
    head=dict(type='VisionTransformerClsHead', num_classes=10, in_channels=96),
)
auto_scale_lr = dict(base_batch_size=50)

train_cfg = dict(max_epochs=100, val_interval=25)
val_cfg = dict()
test_cfg = dict()
param_scheduler = _base_.param_scheduler
param_scheduler[0].update(end=10)
param_scheduler[1].update(begin=10, end=100)
default_hooks = dict(
    logger=dict(interval=2), checkpoint=dict(interval=50, max_keep_ckpts=1)
)
