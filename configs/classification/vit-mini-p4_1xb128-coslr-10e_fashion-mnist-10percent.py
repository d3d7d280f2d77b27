# Fine-tuning on every tenth image of Fashion-MNIST, 600 of each class, on two
# CPU cores.
_base_ = ['vit-mini-p4_1xb128-coslr-5e_fashion-mnist.py']

train_dataloader = dict(dataset=dict(indices=range(0, 60000, 10)))
train_cfg = dict(max_epochs=10, val_interval=10)
param_scheduler = _base_.param_scheduler
param_scheduler[0].update(end=0.5)
param_scheduler[1].update(begin=0.5, end=10)
