# MAE on the images and in the time of SAIM: the miniature.
_base_ = [
    '../../_base_/models/mae_vit-tiny-p4.py',
    '../../_base_/datasets/cifar10_bs512_saim.py',
    '../../_base_/schedules/cifar10_adamw_bs128_20e.py',
    '../../_base_/saim_runtime.py',
]

model = dict(
    backbone=dict(
        arch=dict(  # saim-mini, by the name that mmpretrain does not know
            _delete_=True,
            embed_dims=96,
            num_layers=4,
            num_heads=3,
            feedforward_channels=384,
        )
    ),
    neck=dict(embed_dim=96, decoder_embed_dim=64, decoder_depth=3),
)
train_dataloader = dict(batch_size=128, num_workers=1)
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys=dict(
            cls_token=dict(decay_mult=0.0), mask_token=dict(decay_mult=0.0)
        )
    )
)
