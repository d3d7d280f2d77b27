"""A checkpoint's heads: of its own config, or refused."""

import random

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import load_checkpoint
from mmpretrain.registry import MODELS

from saim_mm.checkpoint.heads import (
    check_heads,
    class_counts,
    fit_heads,
    other_class_counts,
    read_literals,
)

ARCH = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)


def classifier(classes):
    return dict(
        type='ImageClassifier',
        backbone=dict(type='SAIMViT', arch=ARCH, img_size=32, patch_size=8),
        head=dict(type='LinearClsHead', num_classes=classes, in_channels=32),
    )


@pytest.fixture
def checkpoint(tmp_path):
    """Of five classes, with the text of its config."""

    def save(cfg=True, **more):
        config = Config(dict(model=classifier(5), lr=-1e-3, scope=None))
        weights = MODELS.build(config.model).state_dict()
        path = tmp_path / 'x.pth'
        meta = dict(cfg=config.pretty_text) if cfg else {}
        torch.save(dict(meta=meta, state_dict={**weights, **more}), path)
        return path

    return save


def test_the_text_of_a_config():
    for path in (
        'configs/segmentation/saim-vit-192x4-p8_linear_1xb8-200i_camvid-'
        '240x320.py',
        'configs/_base_/models/mask-rcnn_saim-vit-base-p16_vitdet.py',
    ):
        cfg = Config.fromfile(path)
        read = read_literals(cfg.pretty_text)
        assert class_counts(read['model']) == class_counts(cfg.model)
        assert len(class_counts(cfg.model)) > 0
    read = read_literals("a = dict(b=-1, c=[1, (2.5, 'x--y')], d={'e': None})")
    assert read == dict(a=dict(b=-1, c=[1, [2.5, 'x--y']], d=dict(e=None)))
    assert read_literals('a = open(1)\nb = float("inf")') == dict(
        a=None, b=None
    )


@pytest.mark.parametrize(
    'text',
    [
        *('a = ' + '-' * 10**5 + '1', 'a = ' + '- ' * 10**5 + '1'),
        *('a = ' + 'not ' * 10**5 + '1', 'a = ' + '~' * 10**5 + '1'),
        *('a = ' + '[' * 10**5, 'a = ' + '[' * 250 + ']' * 250),
        *('a = ' + 'dict(a=' * 10**4 + '1' + ')' * 10**4, 'a = 1 +' * 10**4),
        *('a = ' + 'lambda: ' * 10**4 + '1', "a = f'{open(1)}'"),
        *('a = 1 if ' * 10**4, 'a' + '.a' * 10**5, 'a = ' + 'x' * 2**21),
        *('import os', 'a = "', 'a = (', '  a = 1\n b = 2', '\0', 'a = @'),
        *('a = x' + '[0]' * 10**5, 'a = x' + '()' * 10**5),
        *('for a in b: c', 'a = 1;' * 3 + ']', 'a = `b`'),
    ],
    ids=range(24),
)
def test_programs_are_no_configs(text):
    with pytest.raises(ValueError):
        read_literals(text)


def test_texts_at_random():
    """Nothing else than a dict or a ValueError, and nothing runs."""
    generator = random.Random(0)
    words = ['a', '=', 'dict(', '(', ')', '[', ']', '{', '}', ':', ',', '1']
    words += ["'x'", '-', '\n', ' ', 'exec', '"""', '#', '\\', 'None', '1e9']
    for _ in range(2000):
        text = ' '.join(generator.choices(words, k=generator.randint(1, 12)))
        try:
            assert isinstance(read_literals(text), dict)
        except ValueError:
            pass


def test_classes_of_the_checkpoint(checkpoint):
    path = checkpoint()
    cfg = Config(dict(model=classifier(7), default_scope='mmpretrain'))
    assert class_counts(cfg.model) == {'model.head.num_classes': 7}
    others = other_class_counts(cfg, path)
    assert others == {'model.head.num_classes': 5}
    with pytest.raises(
        ValueError,
        match=r"(?s)x\.pth.*head\.fc\.weight.*'model.head.num_classes': 7.*"
        r'says: --cfg-options model\.head\.num_classes=5$',
    ):
        check_heads(cfg, path)
    with pytest.raises(ValueError, match='says: --cfg-options'):
        fit_heads(cfg, path, given=others)
    assert fit_heads(cfg, path) == others
    assert other_class_counts(cfg, path) == {}
    check_heads(cfg, path)


def test_checkpoints_without_a_config_or_a_head(checkpoint):
    cfg = Config(dict(model=classifier(7), default_scope='mmpretrain'))
    path = checkpoint(cfg=False)
    assert other_class_counts(cfg, path) == {}
    with pytest.raises(ValueError, match='give the config that it was'):
        check_heads(cfg, path)
    cfg = Config(dict(model=classifier(5), default_scope='mmpretrain'))
    check_heads(cfg, checkpoint(**{'ema.x': torch.ones(1)}))
    weights = torch.load(path)['state_dict']
    backbone = {k: v for k, v in weights.items() if 'backbone' in k}
    torch.save(backbone, path)  # as pre-training's
    with pytest.raises(ValueError, match="lacks .'head.fc.weight'"):
        check_heads(cfg, path)


def test_weights_under_model(checkpoint):
    """MMEngine looks under ``state_dict``, or at the top: it found none."""
    path = checkpoint()
    weights = torch.load(path)['state_dict']
    torch.save(dict(model=weights), path)
    stock = dict(
        type='VisionTransformer', arch=ARCH, img_size=32, patch_size=8
    )
    for backbone in ({}, dict(backbone=stock)):  # which does not look itself
        cfg = Config(dict(model={**classifier(5), **backbone}))
        check_heads(cfg, path)
        model = MODELS.build(cfg.model)
        load_checkpoint(model, str(path))
        for name, value in model.state_dict().items():
            assert torch.equal(value, weights[name]), name
