import gc
import multiprocessing
import os

import pytest
import torch
from helpers import ROOT, SERVER, TINY, serve, surroundings, tiles
from mmengine.config import Config
from mmpretrain.registry import MODELS

import saim_mm  # noqa: F401  registers everything
from saim_mm.engine.checks import names

# What is imported is no garbage: MMEngine collects for each data set.
gc.freeze()
# As many threads as cores in each of several workers wait for each other.
torch.set_num_threads(1)
os.environ.setdefault('OMP_NUM_THREADS', '1')


def pytest_addoption(parser):
    parser.addoption('--slow', action='store_true', help='run slow tests too')


#: Of few tests that take long: begun first, or one of two workers waits for
#: the other's last file. (With --no-loadscope-reorder.)
FIRST = (
    'test_benchmarks test_train test_sharded test_zoo test_kill '
    'test_probe_hook test_dist test_toolboxes test_resume test_cli '
    'test_any_image test_study'
).split()


def pytest_collection_modifyitems(config, items):
    items.sort(key=lambda item: item.path.stem not in FIRST)
    if not config.getoption('--slow'):
        skip = pytest.mark.skip(reason='slow: run with --slow')
        for item in items:
            if 'slow' in item.keywords:
                item.add_marker(skip)


@pytest.fixture(autouse=True)
def in_the_root(monkeypatch):
    """Configs are named relative to the project, as users name them."""
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope='session')
def run(tmp_path_factory):
    """Run a tool, or -m and a module, in a process that has mmdet and mmseg.

    Returns its exit code and output.
    """
    ours, theirs = multiprocessing.Pipe()
    server = SERVER.Process(target=serve, args=(theirs,))
    server.start()
    folder = tmp_path_factory.mktemp('tools')  # some write where they are
    log = folder / 'log'
    environment = surroundings(MPLBACKEND='Agg', PYTHONPATH=str(ROOT))

    def run(script, *arguments):
        if script != '-m':
            script = ROOT / 'tools' / script
        log.write_text('')
        words = [*map(str, (script, *arguments))]
        ours.send((words, folder, environment, str(log)))
        return ours.recv(), log.read_text()

    yield run
    ours.send(None)
    server.join()


@pytest.fixture
def read_once(monkeypatch):
    """A file is read once for all configs that are made of it."""
    read = names.values_of_file
    known = {}

    def values_of_file(cfg):
        if cfg.filename not in known:
            known[cfg.filename] = read(cfg)
        return known[cfg.filename]

    monkeypatch.setattr(names, 'values_of_file', values_of_file)
    monkeypatch.setattr(Config, 'pretty_text', '')  # half of a Runner's time


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


@pytest.fixture(scope='module')
def forty_images(photos, tmp_path_factory):
    """Thirty-nine tiles, and a broken one among them."""
    folder = tmp_path_factory.mktemp('images')
    for path in sorted(photos.iterdir())[:39]:
        (folder / path.name).symlink_to(path)
    (folder / 'broken.jpg').write_bytes(b'\xff\xd8\xff\xe0 and no more')
    return folder
