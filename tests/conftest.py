from pathlib import Path

import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

import saim_mm  # noqa: F401  registers everything

ROOT = Path(__file__).parents[1]


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
