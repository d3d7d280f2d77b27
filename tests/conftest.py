import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS
from PIL import Image
from scripts import ROOT
from sklearn.datasets import load_sample_images

import saim_mm  # noqa: F401  registers everything

TINY = dict(embed_dims=24, num_layers=4, num_heads=3, feedforward_channels=48)


def pytest_addoption(parser):
    parser.addoption('--slow', action='store_true', help='run slow tests too')


def pytest_collection_modifyitems(config, items):
    if not config.getoption('--slow'):
        skip = pytest.mark.skip(reason='slow: run with --slow')
        for item in items:
            if 'slow' in item.keywords:
                item.add_marker(skip)


@pytest.fixture(autouse=True)
def in_the_root(monkeypatch):
    """Configs are named relative to the project, as users name them."""
    monkeypatch.chdir(ROOT)


def tiles(folder, size=80):
    """Tiles of scikit-learn's two photographs, 640 x 427 pixels each."""
    folder.mkdir(parents=True)
    for number, photo in enumerate(load_sample_images().images):
        for y in range(0, photo.shape[0] - size + 1, size):
            for x in range(0, photo.shape[1] - size + 1, size):
                tile = Image.fromarray(photo[y : y + size, x : x + size])
                tile.save(folder / f'{number}_{y}_{x}.jpg', quality=95)
    return folder


@pytest.fixture(scope='session')
def photos(tmp_path_factory):
    return tiles(tmp_path_factory.mktemp('photos') / 'train')


@pytest.fixture(scope='session')
def checkpoint(tmp_path_factory):
    """As pre-training on 32 x 32 pixels, patches of 8, writes it."""
    cfg = Config.fromfile(
        ROOT / 'configs/pretrain/saim_vit-demo-p4_1xb64-coslr-40e_digits.py'
    )
    cfg.model.backbone.update(arch=TINY, img_size=32, patch_size=8)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    path = tmp_path_factory.mktemp('pretrained') / 'epoch_1.pth'
    torch.save(dict(meta={}, state_dict=model.state_dict()), path)
    return path


def write_config(cfg, work_dir):
    """A user's config file; returns its path."""
    cfg.work_dir = str(work_dir)
    work_dir.mkdir(parents=True, exist_ok=True)
    cfg.dump(work_dir / 'config.py')
    return work_dir / 'config.py'


def in_process(values):
    """Options by which loaders start no processes."""
    for name in ('train', 'val', 'test'):
        values[f'{name}_dataloader.num_workers'] = 0
        values[f'{name}_dataloader.persistent_workers'] = False
    return values
