"""What all recipes share: options of the user, checkpoints, what is said."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers import call
from PIL import Image

from saim_mm.datasets import images as reading
from saim_mm.datasets.folders import look_at
from saim_mm.engine import recipes, run
from saim_mm.utils.check import ConfigError


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
    # A million images in batches of 128 are 7,812 steps an epoch.
    [(4, 5, 1), (4, 200, 20), (1_000_000, 200, 1), (51_200, 200, 5)],
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


def test_a_start_says_which_network(folder, tmp_path):
    """That of the training, where the folder would choose another."""
    other = tmp_path / 'other'
    other.mkdir()
    chosen = config(folder).model.backbone
    assert (chosen.arch, chosen.img_size) == ('saim-mini', 32)
    arguments = dict(arch='192x4', size=48, patch=8)
    cfg = config(folder, **arguments)
    cfg.dump(str(other / run.CONFIG))
    (other / 'last_checkpoint').write_text(str(other / 'epoch_1.pth'))
    (other / 'epoch_1.pth').write_bytes(b'')
    checkpoint = str(other / 'epoch_1.pth')
    backbone = config(folder, init=checkpoint).model.backbone
    for field in ('arch', 'img_size', 'patch_size'):
        assert backbone[field] == cfg.model.backbone[field]
    assert backbone.init_cfg.checkpoint == checkpoint
    given = config(folder, init=checkpoint, size=64).model.backbone
    assert (given.img_size, given.patch_size) == (64, 8)


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


def test_a_folder_that_may_not_be_read(folder, monkeypatch):
    """As lost+found; root, who runs tests, may read any."""
    closed = folder / 'lost+found'
    closed.mkdir()
    scandir = os.scandir

    def refuse(path):
        if os.fspath(path) == os.fspath(closed):
            raise PermissionError(13, 'Permission denied', str(path))
        return scandir(path)

    monkeypatch.setattr(os, 'scandir', refuse)
    with pytest.warns(UserWarning, match='left out: .*lost.found'):
        assert len(reading.find_images(folder)) == 4
    with pytest.raises(PermissionError):
        reading.find_images(closed)


def test_threads_leave_the_limit_of_pillow(folder):
    content = (folder / 'a.jpg').read_bytes()
    limit = Image.MAX_IMAGE_PIXELS
    assert limit
    with ThreadPoolExecutor(8) as pool:
        shapes = list(pool.map(reading.jpeg_shape, [content] * 5000))
    assert set(shapes) == {(32, 40)}
    assert limit == Image.MAX_IMAGE_PIXELS


def test_a_script_finds_the_config_behind_its_options(tmp_path):
    """And says what is wrong with an option, in one line."""
    config = 'configs/pretrain/saim_vit-demo-p8_1xb64-coslr-500i_folder.py'
    code, output = call(
        *(
            sys.executable,
            'tools/train.py',
            '--work-dir',
            tmp_path / 'run',
            config,
        ),
        *('--cfg-options', 'param_scheduler.9.end=5'),
    )
    assert code == 1
    last = output.splitlines()[-1]
    assert last.startswith('error: param_scheduler.9.end=5: must name fields')
