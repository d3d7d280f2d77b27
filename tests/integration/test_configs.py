"""Every config loads, builds, and says what the paper says."""

import math

import pytest
import torch
from helpers import ROOT
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS
from mmpretrain.registry import DATASETS, MODELS, TRANSFORMS

import saim_mm

CONFIGS = sorted(
    str(p.relative_to(ROOT))
    for folder in ('pretrain', 'classification')  # for mmpretrain
    for p in (ROOT / 'configs' / folder).glob('*.py')
)
IN1K = [
    c for c in CONFIGS if c.startswith('configs/pretrain/') and 'in1k' in c
]


@pytest.mark.parametrize('path', CONFIGS)
def test_config_builds(path):
    cfg = Config.fromfile(path)
    assert cfg.runner_type == 'SAIMRunner'
    model = MODELS.build(cfg.model)
    if 'pretrain' in path:
        assert isinstance(model, saim_mm.SAIM)
    dataset = cfg.train_dataloader.dataset
    assert dataset.type in DATASETS or dataset.type == 'UnlabelledImages'
    for transform in dataset.pipeline:
        TRANSFORMS.build(transform)


def test_the_papers_configs_are_there():
    assert {c.split('/')[-1] for c in IN1K} == {
        f'saim_vit-{arch}-p16_32xb64-amp-coslr-{epochs}e_in1k.py'
        for arch in ('base', 'large')
        for epochs in (300, 800, 1600)
    }


@pytest.mark.parametrize('path', IN1K)
def test_pretraining_is_table_6(path):
    cfg = Config.fromfile(path)
    epochs = int(path.split('-')[-1].split('e_')[0])
    assert cfg.train_cfg.max_epochs == epochs
    assert 32 * cfg.train_dataloader.batch_size == 2048
    assert cfg.auto_scale_lr.base_batch_size == 2048

    crop, flip, _ = cfg.train_dataloader.dataset.pipeline  # and pack
    assert crop.type == 'LoadRandomResizedCrop' and crop.scale == 224
    assert crop.interpolation == 'bicubic'
    assert tuple(crop.crop_ratio_range) == (0.67, 1)
    assert tuple(crop.aspect_ratio_range) == (3 / 4, 4 / 3)
    assert flip.type == 'RandomFlip' and flip.prob == 0.5

    assert cfg.optim_wrapper.pop('type') == 'BFloat16OptimWrapper'
    assert 'clip_grad' not in cfg.optim_wrapper
    model = MODELS.build(cfg.model)
    assert isinstance(model.order, MODELS.get('StochasticOrder'))
    assert model.neck.depth == len(model.backbone.layers)
    assert model.backbone.num_layers == (24 if 'large' in path else 12)
    assert len(model.target_generator.kernel) == 9
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    assert isinstance(optimizer, torch.optim.AdamW)
    names = {p: name for name, p in model.named_parameters()}
    for group in optimizer.param_groups:
        assert group['lr'] == pytest.approx(2e-4 * 2048 / 256)
        assert group['betas'] == (0.9, 0.95)
        for parameter in group['params']:
            name = names.pop(parameter)
            plain = name.endswith('.bias') or '.ln' in name
            assert group['weight_decay'] == (0 if plain else 0.05), name
    assert set(names.values()) == {'backbone.pos_embed'}

    # Warm-up over 30 epochs, then a half cosine to 0, step by step.
    per_epoch, peak = 10, 1.6e-3
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=peak)
    schedulers = [
        PARAM_SCHEDULERS.build(
            x, default_args=dict(optimizer=optimizer, epoch_length=per_epoch)
        )
        for x in cfg.param_scheduler
    ]
    steps = epochs * per_epoch
    for step in range(steps):
        rate = optimizer.param_groups[0]['lr']
        if step < 30 * per_epoch:
            expected = peak * step / (30 * per_epoch)
        else:
            done = (step - 30 * per_epoch) / (steps - 30 * per_epoch)
            expected = peak * 0.5 * (1 + math.cos(math.pi * done))
        # MMEngine's warm-up ends a step early and starts above zero.
        assert rate == pytest.approx(
            expected, abs=1.01 * peak / 30 / per_epoch
        )
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    assert optimizer.param_groups[0]['lr'] < 1e-3 * peak
