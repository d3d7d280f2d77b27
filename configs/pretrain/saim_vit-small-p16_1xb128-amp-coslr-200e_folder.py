# Any folder of images, one GPU. Point it at yours:
#   --cfg-options train_dataloader.dataset.data_root=/path/to/images
# More memory, more images: model.backbone.arch=base, and for another batch
# size train_dataloader.batch_size=256 --auto-scale-lr.
_base_ = ['saim_vit-base-p16_32xb64-amp-coslr-300e_in1k.py']

model = dict(backbone=dict(arch='deit-small'))
train_dataloader = dict(
    batch_size=128, drop_last=False, dataset=dict(data_root='data/images/')
)

optim_wrapper = dict(optimizer=dict(lr=2e-4 * 128 / 256))
auto_scale_lr = dict(base_batch_size=128)

train_cfg = dict(max_epochs=200)
param_scheduler = _base_.param_scheduler
param_scheduler[0].update(end=20)
param_scheduler[1].update(begin=20, end=200)
