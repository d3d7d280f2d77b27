"""What all recipes share: options of the user, checkpoints, what is said."""

import importlib
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers import FORK, ROOT, bright_and_dark
from mmengine.config import Config
from PIL import Image

from saim_mm.checkpoint.zoo import DEMO
from saim_mm.datasets import images as reading
from saim_mm.datasets.folders import folders_in, look_at
from saim_mm.engine import memory, recipes, run
from saim_mm.models.vit import SAIMViT
from saim_mm.utils.check import ConfigError
from saim_mm.utils.dependency import require
from saim_mm.utils.lock import locked

DIGITS = 'configs/classification/vit-demo-p4_1xb50-coslr-100e_digits.py'


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    for module in (recipes, memory):
        monkeypatch.setattr(module, 'get_device', lambda: 'cpu')


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / 'images'
    path.mkdir()
    for name in 'abcd':
        Image.new('RGB', (40, 32), 'red').save(path / f'{name}.jpg')
    return path


def config(folder, epochs=20, **arguments):
    out = folder.parent / 'out'
    return recipes.pretrain_config(folder, out, epochs=epochs, **arguments)[0]


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'train_cfg.max_epochs': 3}, 'max_epochs=3: .*--epochs'),
        ({'model.backbone.arch': 'base'}, "arch='base': .*--arch"),
        ({'model.backbone.img_size': 64}, 'img_size=64: .*--size'),
        ({'param_scheduler.2.end': 5}, 'param_scheduler.2.end=5: .*length'),
        ({'model.backbone.arch.layers': 5}, 'model.backbone.arch.layers=5: '),
        ({'train_dataloader.batch_size': 'many'}, "batch_size='many': "),
        ({'optim_wrapper.optimizer.lr': 'fast'}, "optimizer.lr='fast': "),
        (
            {'optim_wrapper.accumulative_counts': 0},
            'accumulative_counts=0: must be a positive',
        ),
    ],
)
def test_options_that_cannot_be(folder, options, words):
    with pytest.raises(ValueError, match=words):
        config(folder, options=options)


def test_refused_options_leave_no_list(folder):
    """Of a fine-tuning, whose next try may be of other images."""
    for name in ('one', 'two'):
        (folder / name).mkdir()
        for file in 'ab':
            (folder / name / f'{file}.jpg').symlink_to(folder / 'a.jpg')
    out = folder.parent / 'out'
    with pytest.raises(ConfigError, match='param_scheduler.2.end=5'):
        recipes.finetune_config(
            folder, out, options={'param_scheduler.2.end': 5}
        )
    assert not out.exists()


def test_no_worker_takes_one_option(folder):
    key = 'train_dataloader.num_workers'
    assert config(folder).train_dataloader.persistent_workers
    loader = config(folder, options={key: 0}).train_dataloader
    assert not loader.persistent_workers


def test_the_wrapper_that_is_asked_for(folder):
    wanted = {'optim_wrapper.type': 'AmpOptimWrapper'}
    cfg, line = recipes.pretrain_config(folder, folder / 'o', options=wanted)
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    assert 'cpu, AmpOptimWrapper' in line


@pytest.mark.parametrize(
    ('images', 'epochs', 'interval'),
    # 300,000 images in batches of 128 are 2,343 steps an epoch.
    [(4, 5, 1), (4, 200, 20), (300_000, 200, 1), (51_200, 200, 5)],
)
def test_a_checkpoint_is_never_a_day_away(folder, images, epochs, interval):
    cfg = config(folder, epochs, images=['a.jpg'] * images)
    assert cfg.default_hooks.checkpoint.interval == interval


def test_how_often_it_is_saved_may_change(folder):
    first = config(folder, options={'default_hooks.logger.interval': 1})
    second = config(
        folder,
        options={
            'default_hooks.checkpoint.interval': 1,
            'train_dataloader.num_workers': 0,
        },
    )
    found = run.differences(first.to_dict(), second.to_dict())
    assert len(found) == 4 or os.cpu_count() == 1
    assert all(map(run.MAY_DIFFER.match, found))


@pytest.fixture
def other(tmp_path):
    """A training elsewhere: what writes its config, and its checkpoint."""
    path = tmp_path / 'other'
    (path / 'far').mkdir(parents=True)
    (path / 'far/epoch_1.pth').write_bytes(b'')
    (path / 'last_checkpoint').write_text(str(path / 'far/epoch_1.pth'))

    def write(**backbone):
        cfg = config(path.parent / 'images')
        cfg.model.backbone = dict(type='SAIMViT', **backbone)
        cfg.dump(str(path / run.CONFIG))
        return path

    return write


def test_a_start_says_which_network(folder, other):
    """That of the training, where the folder would choose another."""
    chosen = config(folder).model.backbone
    assert (chosen.arch, chosen.img_size) == ('saim-mini', 32)
    # Its checkpoints lie elsewhere, as by checkpoint.out_dir.
    init = other(arch='saim-192x4', img_size=48, patch_size=8)
    theirs = config(folder, init=init).model.backbone
    assert (theirs.arch, theirs.img_size, theirs.patch_size) == (
        *('saim-192x4', 48, 8),
    )
    assert theirs.init_cfg.checkpoint == str(init / 'far/epoch_1.pth')
    given = config(folder, init=init, size=64).model.backbone
    assert (given.img_size, given.patch_size) == (64, 8)


def test_a_start_of_defaults_and_other_names(folder, other):
    """As SAIMViT and mmpretrain have them."""
    found = config(folder, init=other(arch='b')).model.backbone
    assert (found.arch, found.img_size, found.patch_size) == ('base', 224, 16)
    arch = SAIMViT.parse_arch('deit-tiny')
    found = config(folder, init=other(arch=dict(arch))).model.backbone
    assert found.arch == 'deit-tiny'


def test_a_start_of_the_package(folder):
    theirs = Config.fromfile(run.config_for(f'saim_mm://{DEMO}'))
    found = config(folder, init=f'saim_mm://{DEMO}').model.backbone
    for field in ('arch', 'img_size', 'patch_size'):
        assert found[field] == theirs.model.backbone[field]


def test_a_start_that_cannot_be(folder, other):
    arch = dict(SAIMViT.parse_arch('deit-tiny'), num_layers=5)
    for backbone, word in (
        (dict(arch=arch), 'num_layers'),
        (dict(arch='base', img_size=(96, 192)), 'With another size'),
    ):
        with pytest.raises(ValueError, match=f'init=.*{word}'):
            config(folder, init=other(**backbone))
    init = other(arch='base', img_size=(96, 192))
    with pytest.raises(ValueError, match='init=.*of square images'):
        recipes.finetune_config(folder, folder.parent / 'out', init=init)
    assert config(folder, init=init, size=96).model.backbone.img_size == 96
    # What lies beside is no config of a training of ours.
    (init / run.CONFIG).write_text('rate = 1\n')
    assert config(folder, init=init).model.backbone.arch == 'saim-mini'


def test_photographs_that_are_left_out_are_said(folder):
    for name in ('e.HEIC', 'f.heic', 'g.gif', 'notes.txt'):
        (folder / name).write_bytes(b'')
    (folder / 'h.jfif').symlink_to('a.jpg')
    found = look_at(folder)
    assert found.number == 5
    assert '(1 .gif, 2 .heic left out: convert them' in str(found)
    for path in folder.glob('*.j*'):
        path.unlink()
    with pytest.raises(ValueError, match='none of 0 can .1 .gif, 2 .heic'):
        look_at(folder)


def test_what_lies_at_the_root_of_a_disk(folder):
    """lost+found, which root alone may read, is no class and no folder."""
    closed = folder / 'lost+found'
    closed.mkdir()
    (closed / 'e.jpg').symlink_to(folder / 'a.jpg')
    assert look_at(folder).number == 4
    assert folders_in(folder) == []


def test_threads_leave_the_limit_of_pillow(folder):
    content = (folder / 'a.jpg').read_bytes()
    limit = Image.MAX_IMAGE_PIXELS
    assert limit
    with ThreadPoolExecutor(8) as pool:
        shapes = list(pool.map(reading.jpeg_shape, [content] * 5000))
    assert set(shapes) == {(32, 40)}
    assert limit == Image.MAX_IMAGE_PIXELS


def test_threads_leave_standard_output(monkeypatch):
    """All want the same library at once, in the first batch."""
    before = sys.stdout
    monkeypatch.setattr(importlib, 'import_module', lambda _: time.sleep(0.01))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: require('mmcv', 'a test'), range(16)))
    assert sys.stdout is before


def test_a_script_says_what_is_wrong_with_an_option(monkeypatch, capsys):
    """In one line, the last, of a config behind other options."""
    monkeypatch.syspath_prepend(ROOT / 'tools')
    read = importlib.import_module('toolbox').read_arguments
    name = 'configs/pretrain/saim_vit-demo-p8_1xb64-coslr-500i_folder.py'
    words = ['--work-dir', 'run', str(ROOT / name), '--cfg-options']
    with pytest.raises(SystemExit, match='1'):
        read([*words, 'param_scheduler.9.end=5'])
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith('error: param_scheduler.9.end=5: must name fields')


@pytest.mark.parametrize(
    'words',
    [
        ('CONFIG', 'CHECKPOINT', '--show'),
        ('CONFIG', '--tta', 'CHECKPOINT', '--work', 'DIR'),
        ('--show', 'CONFIG', 'CHECKPOINT'),
        ('--show-dir', 'DIR', '--tta', 'CONFIG', 'CHECKPOINT'),
        ('--resume', 'CONFIG', 'CHECKPOINT'),  # mmseg's takes no value
        ('CONFIG', '--work-dir', 'DIR', 'CHECKPOINT', '--cfg-options', 'a=1'),
    ],
)
def test_words_of_the_scripts(words, monkeypatch):
    """As the toolboxes' own parsers take them apart."""
    monkeypatch.syspath_prepend(ROOT / 'tools')
    read = importlib.import_module('toolbox').read_arguments
    cfg, args = read(
        [str(ROOT / DIGITS) if word == 'CONFIG' else word for word in words]
    )
    assert cfg.filename == str(ROOT / DIGITS)
    assert args.checkpoint == 'CHECKPOINT'
    assert args.cfg_options == ({'a': 1} if 'a=1' in words else {})
    assert args.resume is (True if '--resume' in words else None)


def test_a_scope_of_no_toolbox(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / 'tools')
    cfg = Config(dict(default_scope='mmengine'))
    assert importlib.import_module('toolbox').check(cfg) == 'mmpretrain'


def test_checkpoints_without_a_config(folder):
    """Of another training they would be gone on with, mid-way."""
    cfg = config(folder)
    out = Path(cfg.work_dir)
    out.mkdir()
    (out / 'epoch_7.pth').write_text('of another')
    classes = folder.parent / 'classes'
    classes.mkdir()
    bright_and_dark(classes, 4, 30, 30)
    for begin in (
        lambda: run.run(cfg),
        lambda: recipes.finetune_config(classes, out),
    ):
        with pytest.raises(ValueError, match='holds checkpoints of a train'):
            begin()
    assert [path.name for path in out.iterdir()] == ['epoch_7.pth']


def hold(folder, connection):
    with locked(folder, 'out'):
        connection.send('locked')
        connection.recv()


def test_two_at_once(folder):
    """The second takes nothing away from the first."""
    cfg = config(folder)
    out = Path(cfg.work_dir)
    out.mkdir()
    (out / 'train.txt').write_text('of the first')
    ours, theirs = FORK.Pipe()
    process = FORK.Process(target=hold, args=(out, theirs), daemon=True)
    process.start()
    assert ours.recv() == 'locked'
    with pytest.raises(RuntimeError, match=f'{process.pid} .* is at work'):
        run.run(cfg)
    process.kill()
    process.join()
    assert (out / 'train.txt').read_text() == 'of the first'


def test_a_load_from_behind_the_command(folder, monkeypatch):
    """Is of the first start; and a test of config.py loads weights, too."""
    seen = []

    def look(cfg):
        seen.append((cfg.resume, cfg.load_from, cfg.start_from))
        raise KeyboardInterrupt

    monkeypatch.setattr(run.QuietRunner, 'from_cfg', look)
    for name in ('load_from', 'start_from'):
        cfg = config(folder, options={name: 'a.pth'})
        assert not cfg.resume
        with pytest.raises(KeyboardInterrupt):
            run.train(cfg)
    assert seen == 2 * [(True, None, 'a.pth')]


def test_a_folder_that_was_moved(tmp_path):
    """The lists in it have other paths, and are compared themselves."""
    classes = tmp_path / 'classes'
    classes.mkdir()
    bright_and_dark(classes, 4, 30, 30)
    old, new = tmp_path / 'old', tmp_path / 'new'
    before, _ = recipes.finetune_config(classes, old, epochs=2)
    old.rename(new)
    cfg, _ = recipes.finetune_config(classes, new, epochs=2)
    assert str(new / 'train.txt') in cfg.pretty_text
    run.check_same(before, cfg)
    old.symlink_to(new)
    run.check_same(before, cfg)
    cfg.train_dataloader.dataset.ann_file = str(tmp_path / 'train.txt')
    with pytest.raises(ValueError, match='dataset.ann_file='):
        run.check_same(before, cfg)


def test_a_comparison_that_was_moved(tmp_path):
    """Its fine-tunings begin with a pre-training beside them."""

    def settings(root):
        return Config(
            dict(
                work_dir=f'{root}/finetune/saim-1-0',
                init=f'{root}/pretrain/epoch_1.pth',
                data=str(tmp_path / 'images'),
                train_dataloader=dict(batch_size=4),
                optim_wrapper=dict(),
            )
        )

    old, new = settings(tmp_path / 'old'), settings(tmp_path / 'new')
    with pytest.raises(ValueError, match='init='):
        run.check_same(old, new)
    (tmp_path / 'new').mkdir()
    (tmp_path / 'new/images.txt').touch()
    run.check_same(old, new)
    new.init = str(tmp_path / 'old/pretrain/epoch_1.pth')
    with pytest.raises(ValueError, match='init='):
        run.check_same(old, new)
