"""Folders of classes as people have them, for `saim finetune` and others."""

import os
import re
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch
from helpers import bright_and_dark, call, scalars
from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmpretrain.registry import DATASETS

from saim_mm import SAIMRunner
from saim_mm.checkpoint.zoo import bundled
from saim_mm.datasets.folders import look_at, split_classes
from saim_mm.datasets.images import find_images
from saim_mm.engine import recipes, run
from saim_mm.evaluation.predict import short_side

SAIM = (sys.executable, '-m', 'saim_mm.cli')


@pytest.fixture
def classes(tmp_path):
    (tmp_path / 'data').mkdir()
    return bright_and_dark(tmp_path / 'data', 12, 28, 30)


def halves(classes, *names):
    """The same images in train/ and another folder."""
    root = classes.parent / 'halves'
    for name in names:
        shutil.copytree(classes, root / name)
    return root


def test_what_cannot_be_read_is_named_and_left_out(classes, tmp_path):
    """It ended the training; with `saim compare` after its pre-training."""
    whole = (classes / 'dark/02.png').read_bytes()
    broken = {
        'bright/a.png': b'no image',
        'bright/b.jpg': b'',
        'dark/c.png': whole[: len(whole) // 2],
    }
    for name, content in broken.items():
        (classes / name).write_bytes(content)
    found = split_classes(classes)
    assert len(found.train) + len(found.val) == 24
    assert len(found.skipped) == 3
    code, output = call(
        *SAIM,
        *('finetune', classes, '--out', 'run', '--epochs', 2),
        'train_dataloader.num_workers=0',
        'train_dataloader.persistent_workers=False',
        folder=tmp_path,
    )
    assert code == 0, output
    for name in broken:
        assert f'skipped: {classes / name} (' in output
    lists = [(tmp_path / 'run' / name).read_text() for name in run.LISTS]
    assert not any(name in text for name in broken for text in lists)
    assert re.search(r'top-1 \d+\.\d % of run/val\.txt', output)


def test_hidden_folders_are_no_classes_and_have_no_images(classes):
    for name in ('.cache', '.ipynb_checkpoints', 'dark/.trash'):
        shutil.copytree(classes / 'bright', classes / name)
    assert split_classes(classes).names == ['bright', 'dark']
    assert len(find_images(classes)) == 24


@pytest.mark.parametrize('other', ['test', 'valid', None])
def test_train_needs_val(classes, other):
    """It was trained to tell "test" from "train"."""
    root = halves(classes, 'train', *([other] if other else []))
    with pytest.raises(ValueError, match="with train/ and val/.*'train'"):
        split_classes(root)
    # A class may have that name.
    (classes / 'dark').rename(classes / 'train')
    assert split_classes(classes).names == ['bright', 'train']


def test_both_halves_have_the_same_classes(classes):
    root = halves(classes, 'train', 'val')
    assert split_classes(root).names == ['bright', 'dark']
    for half in ('train', 'val'):
        extra = root / half / 'unseen'
        shutil.copytree(classes / 'dark', extra)
        with pytest.raises(ValueError, match=r"same classes.*\['unseen'\]"):
            split_classes(root)
        shutil.rmtree(extra)


def test_finetuning_validates_on_the_other_half(classes, tmp_path):
    root = halves(classes, 'train', 'val')
    for name in ('00', '01'):
        (root / f'val/dark/{name}.png').unlink()
    options = {
        'train_dataloader.num_workers': 0,
        'train_dataloader.persistent_workers': False,
    }
    out = tmp_path / 'run'
    recipes.finetune(root, out, epochs=1, options=options)
    val = Config.fromfile(out / 'config.py').val_dataloader.dataset
    dataset = DATASETS.build({**val, '_scope_': 'mmpretrain'})
    paths = [dataset.get_data_info(n)['img_path'] for n in range(len(dataset))]
    assert len(paths) == 22
    assert {Path(path).parents[1] for path in paths} == {root / 'val'}
    tested = [x for x in scalars(out) if 'accuracy/top1' in x]
    assert len(tested) == 1 and 0 <= tested[0]['accuracy/top1'] <= 100


@pytest.mark.parametrize(
    'name', ['dark/a\nb.png', os.fsdecode(b'dark/\xff.png'), ' dark/a.png']
)
def test_names_that_no_list_can_hold(name, classes):
    path = Path(os.path.join(classes, name))
    path.parent.mkdir(exist_ok=True)
    for copy in (path, path.with_name('other.png')):
        shutil.copy(classes / 'bright/00.png', copy)
    with pytest.raises(ValueError, match='data=.*must be a name.*rename it'):
        split_classes(classes)


def test_names_that_a_list_holds(classes, tmp_path):
    """Spaces of other kinds, as macOS writes, and joined emoji."""
    names = ['a\u202fb.png', '👩\u200d🔬 1.png', 'x .png', 'ü,"\u00a0".png']
    for name in names:
        shutil.copy(classes / 'bright/00.png', classes / 'dark' / name)
    cfg, _ = recipes.finetune_config(classes, tmp_path / 'out')
    dataset = dict(cfg.train_dataloader.dataset, pipeline=[])
    listed = DATASETS.build(dataset)
    paths = [listed.get_data_info(i)['img_path'] for i in range(len(listed))]
    assert len(set(paths)) == len(paths) and all(map(os.path.isfile, paths))
    assert sum(os.path.basename(path) in names for path in paths) >= 3


def test_a_pipe_is_passed_by(classes):
    """Opening one waited for ever."""
    os.mkfifo(classes / 'dark/pipe.png')
    before = signal.alarm(30)
    try:
        assert look_at(classes).number == 25
        assert 'not a regular file' in split_classes(classes).skipped[0]
    finally:
        signal.alarm(before)


def test_the_training_is_not_in_the_data(classes):
    with pytest.raises(ValueError, match='out=.*must be outside of'):
        recipes.finetune_config(classes, classes / 'run')
    assert not (classes / 'run').exists()


def test_a_refused_command_leaves_nothing(classes, tmp_path):
    out = tmp_path / 'out'
    cfg, _ = recipes.finetune_config(classes, out, options={'bad.key': 1})
    with pytest.raises(ValueError, match='bad'):
        run.run(cfg)
    assert not [path for path in out.iterdir() if path.is_file()]
    # In the folder of another training neither.
    run_folder = tmp_path / 'run'
    run_folder.mkdir()
    (run_folder / run.CONFIG).write_text('model = dict()\n')
    with pytest.raises(ValueError, match='out=.*another training'):
        recipes.finetune_config(classes, run_folder)
    assert [path.name for path in run_folder.iterdir()] == [run.CONFIG]
    (tmp_path / 'file').write_text('')
    with pytest.raises(OSError, match="out='.*file': cannot be written"):
        recipes.finetune_config(classes, tmp_path / 'file')


def test_an_interrupted_start_can_be_repeated(classes, tmp_path, monkeypatch):
    """Half a config.py was there then, of "other settings"."""
    out = tmp_path / 'out'
    arguments = dict(epochs=1, options={'train_dataloader.num_workers': 0})
    arguments['options']['train_dataloader.persistent_workers'] = False

    def interrupt(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Config, 'pretty_text', property(interrupt))
        with pytest.raises(KeyboardInterrupt):
            recipes.pretrain(classes, out, **arguments)
    assert not (out / run.CONFIG).exists()
    assert recipes.pretrain(classes, out, **arguments).is_file()


def test_ctrl_c_before_the_first_step_leaves_nothing(
    classes, tmp_path, monkeypatch
):
    """Settings of a training that took no step bind nobody."""
    out = tmp_path / 'out'
    options = {
        'train_dataloader.num_workers': 0,
        'train_dataloader.persistent_workers': False,
    }

    def interrupt(*_):
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(SAIMRunner, 'build_train_loop', interrupt)
        with pytest.raises(KeyboardInterrupt):
            recipes.pretrain(classes, out, epochs=3, options=options)
    assert not (out / run.CONFIG).exists()
    last = recipes.pretrain(classes, out, epochs=1, options=options)
    # Neither the folder's name nor the number of processes is the training.
    moved = out.rename(tmp_path / 'moved')
    options['train_dataloader.num_workers'] = 1
    again = recipes.pretrain(classes, moved, epochs=1, options=options)
    assert again == moved / last.name


def test_ctrl_c_after_the_last_step_is_heard(classes, tmp_path, monkeypatch):
    def interrupt(self, runner):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(CheckpointHook, 'after_train_epoch', interrupt)
    options = {
        'train_dataloader.num_workers': 0,
        'train_dataloader.persistent_workers': False,
    }
    with pytest.raises(KeyboardInterrupt):
        recipes.pretrain(classes, tmp_path, epochs=1, options=options)


def test_too_little_memory_names_the_batch(classes, tmp_path, monkeypatch):
    def run_out(self):
        raise torch.OutOfMemoryError('CUDA out of memory.')

    monkeypatch.setattr(SAIMRunner, 'train', run_out)
    with pytest.raises(
        RuntimeError, match=r'batch_size=\d+: must be smaller.*CUDA out of'
    ):
        recipes.pretrain(classes, tmp_path / 'out', epochs=1)


def test_the_line_says_what_options_say(classes, tmp_path):
    options = {
        'train_dataloader.batch_size': 3,
        'optim_wrapper.optimizer.lr': 0.25,
    }
    for config in (recipes.pretrain_config, recipes.finetune_config):
        out = tmp_path / config.__name__
        _, line = config(classes, out, epochs=7, options=options)
        assert re.search('7 epochs of [68] steps', line), line
        assert '2.5e-01' in line


def test_the_packages_weights_are_a_training():
    """Those of a config in a sub-folder were none."""
    for name in bundled():
        config, checkpoint = run.training_of(f'saim_mm://{name}')
        assert config.stem == name and checkpoint == f'saim_mm://{name}'
    with pytest.raises(ValueError, match=bundled()[0]):
        run.training_of('saim_mm://nosuch')


def test_pictures_of_long_images_can_be_written():
    assert short_side(64, 64) == short_side(64, 100) == 224
    assert short_side(480, 640) == 480
    assert short_side(4000, 6000) == 4000
    for side in (1, 3, 4, 16):
        short = short_side(side, 3000)
        assert side <= short and short * 3000 / side <= 4096
