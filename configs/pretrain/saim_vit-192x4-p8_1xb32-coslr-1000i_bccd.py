# BCCD's training images without their boxes, on two CPU cores; for
# configs/detection/faster-rcnn_saim-vit-192x4-p8_..._bccd.py.
_base_ = ['saim_vit-demo-p8_1xb64-coslr-500i_folder.py']

model = dict(backbone=dict(arch='saim-192x4', img_size=96))
train_dataloader = dict(
    batch_size=32,
    dataset=dict(
        data_root='data/bccd/train/',
        # 640 x 480 pixels, of which detection sees half as many each way.
        pipeline=[
            dict(
                type='LoadRandomResizedCrop',
                scale=96,
                crop_ratio_range=(0.08, 0.3),
            ),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackInputs'),
        ],
    ),
)
auto_scale_lr = dict(base_batch_size=32)

train_cfg = dict(max_iters=1000)
param_scheduler = _base_.param_scheduler
param_scheduler[0].update(end=100)
param_scheduler[1].update(begin=100, end=1000)
default_hooks = dict(checkpoint=dict(interval=500))
