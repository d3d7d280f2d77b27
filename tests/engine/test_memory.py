"""A step of the optimiser in parts, as the memory of a GPU has it."""

import signal

import pytest
from helpers import bright_and_dark
from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from PIL import Image

from saim_mm.checkpoint.loader import load_from_local
from saim_mm.engine import memory, recipes
from saim_mm.engine.resume import find_checkpoints

GIB = 2**30


@pytest.fixture
def gpu(monkeypatch):
    """Pretend a GPU with so much memory."""

    def pretend(size):
        monkeypatch.setattr(memory, 'gpu_memory', lambda: size)

    monkeypatch.setattr(recipes, 'get_device', lambda: 'cuda')
    monkeypatch.setattr(recipes, 'gpu_has_bfloat16', lambda: True)
    return pretend


@pytest.fixture
def many(tmp_path):
    """As if of 2,000 photographs."""
    folder = tmp_path / 'many'
    folder.mkdir()
    Image.new('RGB', (300, 240)).save(folder / '0.jpg')
    for number in range(1, 2000):
        (folder / f'{number}.jpg').symlink_to(folder / '0.jpg')
    return folder


@pytest.mark.parametrize(
    ('arch', 'size', 'at_a_time'),
    [
        ('small', 8 * GIB, 32),
        ('small', 24 * GIB, 128),
        ('small', 80 * GIB, 256),
        ('base', 8 * GIB, 16),
        ('base', GIB, 1),  # it will not do, and says so
        ('base', None, 256),
    ],
)
def test_a_step_is_of_as_many_images(
    gpu, many, tmp_path, arch, size, at_a_time
):
    gpu(size)
    cfg, line = recipes.pretrain_config(many, tmp_path / 'out', arch=arch)
    assert cfg.train_dataloader.batch_size == at_a_time
    counts = cfg.optim_wrapper.get('accumulative_counts', 1)
    assert counts * at_a_time == cfg.auto_scale_lr.base_batch_size == 256
    assert f'{2000 // at_a_time} steps of {at_a_time} images' in line
    assert (f'weights change every {counts})' in line) == (counts > 1)
    whole, _ = recipes.pretrain_config(
        many,
        tmp_path / 'out',
        arch=arch,
        options={'train_dataloader.batch_size': 256},
    )
    assert 'accumulative_counts' not in whole.optim_wrapper
    assert whole.optim_wrapper.optimizer.lr == cfg.optim_wrapper.optimizer.lr
    assert whole.train_cfg.max_epochs == cfg.train_cfg.max_epochs


def test_another_gpu_goes_on(tmp_path, monkeypatch):
    """Six images a step: two at a time, then all."""
    folder = tmp_path / 'images'
    folder.mkdir()
    bright_and_dark(folder, 12, 28, 30)
    arguments = dict(
        epochs=2,
        options={
            'train_dataloader.num_workers': 0,
            'train_dataloader.persistent_workers': False,
        },
    )
    monkeypatch.setattr(recipes, 'images_at_a_time', lambda *_, **__: 2)
    with monkeypatch.context() as patch:
        patch.setattr(
            CheckpointHook,
            'after_train_epoch',
            lambda *_: signal.raise_signal(signal.SIGINT),
        )
        with pytest.raises(KeyboardInterrupt):
            recipes.pretrain(folder, tmp_path / 'run', **arguments)
    (first,) = find_checkpoints(tmp_path / 'run')
    assert load_from_local(first)['meta']['iter'] in (12, 13)
    cfg = Config.fromfile(tmp_path / 'run/config.py')
    assert cfg.train_dataloader.batch_size == 2
    assert cfg.optim_wrapper.accumulative_counts == 3
    # Another number of images for a step is another training.
    with pytest.raises(ValueError, match='out=.*other settings'):
        arguments['options']['train_dataloader.batch_size'] = 2
        recipes.pretrain(folder, tmp_path / 'run', **arguments)
    del arguments['options']['train_dataloader.batch_size']
    monkeypatch.setattr(recipes, 'images_at_a_time', lambda *_, **__: 6)
    last = recipes.pretrain(folder, tmp_path / 'run', **arguments)
    assert last.name == 'epoch_2.pth'
    assert load_from_local(last)['meta']['iter'] == 8


def test_few_images_have_parts(gpu, many, tmp_path):
    """A quarter of 604 is 151, of which there are no parts but 1."""
    gpu(8 * GIB)
    names = [f'{number}.jpg' for number in range(604)]
    cfg, _ = recipes.pretrain_config(
        many, tmp_path / 'out', arch='base', images=names
    )
    assert cfg.train_dataloader.batch_size == 18
    assert cfg.optim_wrapper.accumulative_counts == 8
