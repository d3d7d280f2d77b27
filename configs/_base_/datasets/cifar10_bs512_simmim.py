# SAIM's images, and which patches of each SimMIM masks.
_base_ = ['cifar10_bs512_saim.py']

pipeline = _base_.train_dataloader.dataset.pipeline
# 2 x 2 patches at a time, as the paper's 32 of 16 pixels.
pipeline.insert(
    2,
    dict(
        type='SimMIMMaskGenerator',
        input_size=32,
        mask_patch_size=8,
        model_patch_size=4,
        mask_ratio=0.6,
    ),
)
train_dataloader = dict(dataset=dict(pipeline=pipeline))
