"""Parameters that modules share are stepped once, or refused."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import nn

import saim_mm  # noqa: F401  registers the constructors


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.get_layer_depth = lambda name, prefix: (0, 2)
        self.backbone.first = nn.Linear(2, 2, bias=False)
        self.backbone.second = nn.Linear(2, 2, bias=False)
        self.backbone.second.weight = self.backbone.first.weight


@pytest.mark.parametrize('constructor', ['Merged', 'LayerDecay', 'Default'])
def test_each_is_stepped_once(constructor):
    model = Tied()
    cfg = dict(
        type='OptimWrapper',
        optimizer=dict(type='SGD', lr=1.0),
        constructor=f'{constructor}OptimWrapperConstructor',
        paramwise_cfg=dict(custom_keys={}),
    )
    if constructor == 'LayerDecay':
        cfg['paramwise_cfg']['layer_decay_rate'] = 1.0
    with pytest.raises(
        ValueError,
        match='more than one parameter group'
        if constructor == 'Default'
        else r"bypass_duplicate'.*must be True.* share 1 param",
    ):
        build_optim_wrapper(model, cfg)
    cfg['paramwise_cfg']['bypass_duplicate'] = True
    wrapper = build_optim_wrapper(model, cfg)
    weight = model.backbone.first.weight
    before = weight.detach().clone()
    weight.grad = torch.ones_like(weight)
    wrapper.optimizer.step()
    torch.testing.assert_close(weight.detach(), before - 1)
