# SemAIM with the features of its own moving average as the target; the order
# looks through the same average.
_base_ = ['../saim_vit-base-p16_32xb64-amp-coslr-800e_in1k.py']

model = dict(
    order=dict(_delete_=True, type='SemanticOrder'),
    # Decay 0.999, rising to 0.9999 over the first eighth of the training.
    teacher=dict(type='MovingAverageTeacher'),
    target_generator=dict(_delete_=True, type='FeatureTarget'),
    # 2 - 2 cos: the squared distance of both at length 1.
    head=dict(
        loss=dict(
            _delete_=True,
            type='CosineSimilarityLoss',
            shift_factor=2.0,
            scale_factor=2.0,
        )
    ),
)
optim_wrapper = dict(clip_grad=dict(max_norm=3.0))

# Their released code's; what SAIM's paper has is (0.67, 1.0).
train_dataloader = _base_.train_dataloader
train_dataloader.dataset.pipeline[0].crop_ratio_range = (0.2, 1.0)
