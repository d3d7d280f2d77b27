# Linear probing of the paper. Learning rate: 0.1 for every 256 images.
optim_wrapper = dict(
    type='BFloat16OptimWrapper',
    optimizer=dict(
        type='SGD', lr=0.1 * 2048 / 256, momentum=0.9, weight_decay=0.0
    ),
)
auto_scale_lr = dict(base_batch_size=2048)

train_cfg = dict(by_epoch=True, max_epochs=90, val_interval=1)
val_cfg = dict()
test_cfg = dict()
param_scheduler = [
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=0,
        end=90,
        convert_to_iter_based=True,
    ),
]
