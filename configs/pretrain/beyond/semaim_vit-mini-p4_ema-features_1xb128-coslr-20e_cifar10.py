# SemAIM with the features of its own moving average as the target; the order
# looks through the same average.
_base_ = ['../saim_vit-mini-p4_1xb128-coslr-20e_cifar10.py']

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
