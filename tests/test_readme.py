"""What the README names is there."""

import re

from conftest import ROOT
from mmengine.config import Config
from mmpretrain.registry import MODELS

README = (ROOT / 'README.md').read_text()


def test_paths_exist():
    paths = set(
        re.findall(r'\b(?:configs|tools|saim_mm|docs)/[\w./-]+\w', README)
    )
    assert len(paths) > 12
    for path in paths:
        assert (ROOT / path).exists(), path


def test_every_option_of_the_table_can_be_set():
    options = re.findall(r'^\| `(model\.[\w.]+)` \|', README, re.MULTILINE)
    assert len(options) == 11
    values = {
        'model.backbone.arch': 'deit-tiny',
        'model.backbone.img_size': (64, 96),
        'model.backbone.patch_size': 8,
        'model.order': 'raster',
        'model.neck.depth': 0,
        'model.neck.share_weights': True,
        'model.target_generator.kernel_size': None,
        'model.target_generator.sigma': 1.5,
        'model.target_generator.normalize': False,
        'model.head.predictor': 'transformer',
        'model.head.loss.criterion': 'L1',
    }
    assert set(options) == set(values)
    cfg = Config.fromfile(
        'configs/pretrain/saim_vit-base-p16_32xb64-amp-coslr-300e_in1k.py'
    )
    cfg.merge_from_dict(values)
    model = MODELS.build(cfg.model)
    assert model.backbone.patch_resolution == (8, 12)
    assert (model.order, model.neck.depth) == ('raster', 0)
    assert len(model.head.blocks) == 2
