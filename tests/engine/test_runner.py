"""What SAIMRunner asks of a config and of MMEngine."""

import pytest
import torch
from helpers import config, train
from mmengine.fileio import BaseStorageBackend, FileClient, register_backend
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from saim_mm.engine.checks import device


class Memory(BaseStorageBackend):
    """Files that are nowhere on this machine."""

    files = {}

    def __init__(self, owner='of the scheme'):
        self.owner = owner

    def get(self, path):
        return self.files[self.owner, path]

    def get_text(self, path):
        return self.get(path).decode()

    def put(self, content, path):
        self.files[self.owner, str(path)] = content

    def join_path(self, *paths):
        return '/'.join(map(str, paths))

    def isfile(self, path):
        return (self.owner, path) in self.files

    def isdir(self, path):
        return False

    def remove(self, path):
        del self.files[self.owner, path]


for register in (register_backend, FileClient.register_backend):
    register('memory', Memory, prefixes='memory')


@pytest.mark.parametrize(
    'scheme, backend_args, owner',
    [
        ('memory://', None, 'of the scheme'),
        ('memory://', dict(backend='memory', owner='mine'), 'mine'),
        # A place that looks like a folder, of a backend that is asked for.
        ('', dict(backend='memory', owner='mine'), 'mine'),
    ],
)
def test_checkpoints_elsewhere(photos, tmp_path, scheme, backend_args, owner):
    """MMEngine's backends get them, with the arguments of the hook."""
    Memory.files.clear()
    cfg = config(photos, tmp_path / 'run', iters=2)
    out_dir = f'{scheme}{tmp_path}/out'
    cfg.default_hooks.checkpoint.update(
        out_dir=out_dir, backend_args=backend_args, max_keep_ckpts=1
    )
    train(cfg)
    last = f'{out_dir}/run/iter_2.pth'
    assert list(Memory.files) == [(owner, last)]
    assert (tmp_path / 'run/last_checkpoint').read_text() == last
    assert not list(tmp_path.glob('**/*.pth'))


@HOOKS.register_module()
class KeepBatches(Hook):
    """Keeps the number of each batch that hooks are given."""

    seen = []

    def before_train(self, runner):
        self.seen.clear()

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        self.seen.append((runner.epoch, batch_idx, runner.iter))


@pytest.mark.parametrize('by_epoch', [True, False])
def test_an_epoch_of_another_sampler(photos, tmp_path, by_epoch):
    """As of fine-tuning: it is trained anew, and counted so."""
    cfg = config(photos, tmp_path / 'run', epochs=2)
    cfg.train_dataloader.batch_size = 20
    cfg.train_dataloader.sampler.type = 'DefaultSampler'
    cfg.default_hooks.checkpoint.update(by_epoch=by_epoch, interval=1)
    with pytest.raises(KeyboardInterrupt):
        train(cfg, hooks=[dict(type='StopAfter', iteration=7)])
    runner = train(cfg, True, [dict(type='KeepBatches')])
    assert runner.iter == 8
    assert KeepBatches.seen == [(1, n, 4 + n) for n in range(4)]
    log = max(tmp_path.glob('run/*/*.log')).read_text()
    anew = 'Epoch 2 begins anew, as DefaultSampler cannot go on within one'
    assert (anew in log) == (not by_epoch)
    # The learning rate is that of a training that was not disturbed.
    cfg.work_dir = str(tmp_path / 'straight')
    straight = train(cfg)
    assert runner.optim_wrapper.get_lr() == straight.optim_wrapper.get_lr()


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(iters=2), 'infinite=False: must be True with train_cfg.type='),
        (
            dict(epochs=2),
            'infinite=True: must be False with train_cfg.max_epochs',
        ),
    ],
)
def test_a_sampler_for_the_other_loop(photos, tmp_path, options, message):
    cfg = config(photos, tmp_path, **options)
    cfg.train_dataloader.sampler.infinite = 'epochs' in options
    with pytest.raises(ValueError, match=message):
        train(cfg)


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_no_gpu(photos, tmp_path):
    train(config(photos, tmp_path, iters=1))
    [log] = tmp_path.glob('*/*.log')
    assert 'no GPU found: training on the CPU' in log.read_text()


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
@pytest.mark.parametrize('has', [True, False])
def test_a_cpu_with_and_without_bfloat16(
    photos, tmp_path, monkeypatch, capsys, has
):
    """Emulated it would be slower than float32."""
    monkeypatch.setattr(device, 'cpu_has_bfloat16', lambda: has)
    cfg = config(photos, tmp_path, iters=1)
    cfg.optim_wrapper.type = 'BFloat16OptimWrapper'
    trained = train(cfg)
    used = type(trained.optim_wrapper).__name__
    assert used == ('BFloat16OptimWrapper' if has else 'OptimWrapper')
    said = 'no instructions for bfloat16' in ''.join(capsys.readouterr())
    assert said != has
