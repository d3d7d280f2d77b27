"""The configs of what goes beyond the paper."""

import re

import pytest
import torch
from helpers import ROOT, TINY
from mmengine.config import Config, ConfigDict
from mmpretrain.registry import MODELS

from saim_mm.engine.checks.config import check_config

PRETRAIN = ROOT / 'configs/pretrain'
CONFIGS = sorted((PRETRAIN / 'beyond').glob('*.py'))
#: The squared distance of two features at length 1.
COSINE = {
    'head.loss.type': 'CosineSimilarityLoss',
    'head.loss.shift_factor': 2.0,
    'head.loss.scale_factor': 2.0,
}
#: What differs from SAIM in the model, by the names of configs.
DIFFERENCES = {
    'semaim': {'order.type': 'SemanticOrder'},
    'semaim ema-features': {
        'order.type': 'SemanticOrder',
        'teacher.type': 'MovingAverageTeacher',
        'target_generator.type': 'FeatureTarget',
        **COSINE,
    },
    'semaim clip-features': {
        'order.type': 'SemanticOrder',
        'target_generator.type': 'FeatureTarget',
        **COSINE,
    },
    'saim prefix': {'prefix': 0.5},
    'saim hog': {'target_generator.type': 'HOGTarget'},
    'saim center-out': {'order': 'center_out'},
    **{
        f'saim {order}': {'order': order}
        for order in ('checkerboard', 'spiral', 'snake')
    },
    'aim': {
        'order': 'raster',
        'prefix': 'random',
        'neck.depth': 0,
        'target_generator.kernel_size': None,
    },
    'nepa': {
        'order': 'raster',
        'neck.depth': 0,
        'head.predictor': 'identity',
        'head.loss.type': 'CosineSimilarityLoss',
        'target_generator.type': 'InputEmbeddingTarget',
    },
}


def parse(path):
    """(name of the difference, the config that it differs from)."""
    found = re.fullmatch(
        r'([a-z]+)_(vit-[a-z]+-p\d+)(?:_([a-z-]+))?(_\d+xb.*)', path.name
    )
    algorithm, vit, variant, rest = found.groups()
    base = PRETRAIN / f'saim_{vit}{rest}'
    return ' '.join(filter(None, (algorithm, variant))), base


def flat(config, prefix=''):
    values = {}
    for key, value in config.items():
        if isinstance(value, (dict, ConfigDict)):
            values.update(flat(value, f'{prefix}{key}.'))
        else:
            values[prefix + key] = value
    return values


def test_every_difference_is_there_for_the_miniature():
    for form in ('mini', 'tiny'):
        found = {parse(p)[0] for p in CONFIGS if f'-{form}-' in p.name}
        assert found == set(DIFFERENCES) - {'semaim clip-features'}
    semaim = {p.name.split('-')[-1] for p in CONFIGS if 'semaim' in p.name}
    assert {'300e_in1k.py', '800e_in1k.py'} <= semaim


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_config_differs_in_what_it_says_and_trains(path, tmp_path):
    name, base = parse(path)
    ours, theirs = Config.fromfile(path), Config.fromfile(base)
    before, after = (flat(cfg.pop('model')) for cfg in (theirs, ours))
    changed = {k: v for k, v in after.items() if before.get(k) != v}
    if name.startswith('semaim'):  # a dict, so that options can change it
        cfg = Config.fromfile(path)
        cfg.merge_from_dict({'model.order.kind': 'attention'})
        check_config(cfg)
    if name == 'semaim clip-features':
        kept = {k for k in changed if k.startswith('teacher.')}
        assert all(changed.pop(k) is not None for k in kept)
    assert changed == DIFFERENCES[name]
    if name.startswith('semaim'):
        assert ours.optim_wrapper.pop('clip_grad') == dict(max_norm=3.0)
        if 'base' in path.name:
            crop = ours.train_dataloader.dataset.pipeline[0]
            assert crop.pop('crop_ratio_range') == (0.2, 1.0)
            theirs.train_dataloader.dataset.pipeline[0].pop('crop_ratio_range')
    for cfg in (ours, theirs):
        cfg.pop('train_pipeline', None)
        cfg.pop('clip', None)
    assert ours.to_dict() == theirs.to_dict()

    cfg = Config.fromfile(path)
    cfg.model.backbone.arch = dict(TINY, num_layers=2)
    size = cfg.model.backbone.img_size
    if name == 'semaim clip-features':
        clip_in_small(cfg.model.teacher, tmp_path / 'clip.pth')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    model.train()
    model.loss(torch.rand(2, 3, size, size))['loss'].backward()
    for parameter_name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad.isfinite().all(), parameter_name


def clip_in_small(teacher, path):
    """Make the teacher small, with a checkpoint as CLIP's is converted."""
    teacher.backbone.arch = TINY
    teacher.neck.update(in_channels=24, out_channels=12)
    vit = MODELS.build({'_scope_': 'mmpretrain', **teacher.backbone})
    state = {f'visual.{n}': v for n, v in vit.state_dict().items()}
    torch.save({**state, 'visual_proj.proj': torch.randn(24, 12)}, path)
    teacher.backbone.init_cfg.checkpoint = str(path)
    teacher.neck.init_cfg.checkpoint = str(path)
