"""One training at a time has a folder, and says what is wrong with it."""

import copy
import errno
import os
import re
import shutil
import signal

import pytest
import torch
from helpers import FORK, config, train
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from saim_mm import SAIMRunner
from saim_mm.engine import work_dir
from saim_mm.utils.lock import locked


@HOOKS.register_module()
class RemoveWorkDir(Hook):
    """Takes the folder away in the second iteration."""

    priority = 'HIGHEST'

    def after_train_iter(self, runner, *args, **kwargs):
        if runner.iter == 1:
            shutil.rmtree(runner.work_dir)


def hold(folder, connection):
    """A training, as far as others see it."""
    with locked(folder, 'work_dir'):
        connection.send('locked')
        connection.recv()


def test_two_trainings(photos, tmp_path):
    """The second is refused, until the first is gone, by kill -9 too."""
    cfg = config(photos, tmp_path, iters=1)
    ours, theirs = FORK.Pipe()
    first = FORK.Process(  # ends with this one if the test fails
        target=hold, args=(str(tmp_path), theirs), daemon=True
    )
    first.start()
    assert ours.recv() == 'locked'
    with pytest.raises(RuntimeError) as error:
        train(cfg)
    assert re.match(
        rf"work_dir='{tmp_path}': process {first.pid} on \S+, since .* is "
        'at work there. Wait for it, stop it, or set another',
        str(error.value),
    )
    assert not list(tmp_path.glob('*.pth'))
    os.kill(first.pid, signal.SIGKILL)
    first.join()
    assert train(cfg).iter == 1
    # In its place one that fails, and one after it, in this process.
    with pytest.raises(KeyboardInterrupt):
        train(cfg, hooks=[dict(type='StopAfter', iteration=1)])
    assert train(cfg).iter == 1


def test_where_there_are_no_locks(photos, tmp_path, monkeypatch, caplog):
    def lockf(*args):
        raise OSError(errno.ENOLCK, 'No locks available')

    monkeypatch.setattr('fcntl.lockf', lockf)
    assert train(config(photos, tmp_path, iters=1)).iter == 1
    [log] = tmp_path.glob('*/*.log')
    assert 'no locks there ([Errno 37] No locks' in log.read_text()


def start_training(cfg, connection):
    """What torchrun starts; it stands still when it would train."""
    os.environ['TORCHELASTIC_RUN_ID'] = 'saim'
    torch.set_num_threads(1)  # OpenMP's others are not in a forked process
    SAIMRunner.from_cfg(cfg)
    connection.send(os.getpid())
    signal.pause()


def be_torchrun(cfg, connection):
    child = FORK.Process(target=start_training, args=(cfg, connection))
    child.start()
    child.join()


def test_torchrun_is_killed(photos, tmp_path):
    """What it started ends with it, and does not train on."""
    ours, theirs = FORK.Pipe()
    cfg = config(photos, tmp_path, iters=1)
    torchrun = FORK.Process(target=be_torchrun, args=(cfg, theirs))
    torchrun.start()
    theirs.close()
    ours.recv()
    torchrun.kill()
    torchrun.join()
    # Theirs is closed when the last process ends that had it.
    assert ours.poll(20), 'it trains on'
    with pytest.raises(EOFError):
        ours.recv()


def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, 'No space left on device')


@pytest.mark.parametrize(
    'writes',
    [
        (Config, 'dump'),
        (os, 'fsync'),
        (work_dir.tempfile, 'NamedTemporaryFile'),
    ],
)
def test_disk_is_full_at_the_start(photos, tmp_path, monkeypatch, writes):
    cfg = config(photos, tmp_path, iters=1)
    monkeypatch.setattr(*writes, full)
    with pytest.raises(OSError) as error:
        train(cfg)
    message = str(error.value)
    assert f"work_dir='{tmp_path}': cannot be written" in message
    assert 'No space left on device' in message and 'make room' in message


def test_folder_that_cannot_be(photos):
    """Root may write everywhere but here."""
    with pytest.raises(OSError, match="work_dir='/proc/saim': cannot be wri"):
        train(config(photos, '/proc/saim', iters=1))


def test_disk_is_full_later(photos, tmp_path, monkeypatch):
    """Of logs, too; checkpoints are in test_resume."""
    cfg = config(photos, tmp_path, iters=2)
    monkeypatch.setattr(
        'mmengine.visualization.LocalVisBackend.add_scalars', full
    )
    with pytest.raises(OSError, match='work_dir=.*: cannot be written .*MiB'):
        train(cfg)


@pytest.mark.parametrize(
    'file, named',
    [
        ('{}/run/x.pth', r"work_dir='{}/run': "),
        (b'{}/run/x.pth', r"work_dir='{}/run': "),
        (3, r"work_dir='{}/run': "),  # of a file that is open
        ('{}/else/where/x', r"file='{}/else/where/x': "),
        ('{}/running/x', r"file='{}/running/x': "),
    ],
)
def test_another_disk_is_full(tmp_path, file, named):
    """It is not work_dir, nor would another --work-dir help."""
    (tmp_path / 'run').mkdir()
    if isinstance(file, bytes):
        file = file.replace(b'{}', os.fsencode(tmp_path))
    elif isinstance(file, str):
        file = file.format(tmp_path)
    with pytest.raises(OSError) as error:
        with work_dir.explain_os_errors(str(tmp_path / 'run')):
            raise OSError(errno.ENOSPC, 'No space left on device', file)
    message = str(error.value)
    assert message.startswith(named.format(tmp_path) + 'cannot be written (')
    assert 'make room' in message
    assert ('--work-dir' in message) == named.startswith('work_dir')


def test_folder_is_removed(photos, tmp_path):
    cfg = config(photos, tmp_path / 'run', iters=3)
    with pytest.raises(
        FileNotFoundError, match="work_dir='.*run': is no longer there"
    ):
        train(cfg, hooks=[dict(type='RemoveWorkDir')])


def test_report_that_cannot_be_written(photos, tmp_path):
    """Training is worth more than the list of unreadable files."""
    images = tmp_path / 'images'
    images.mkdir()
    for path in sorted(photos.iterdir())[:4]:
        (images / path.name).symlink_to(path)
    (images / 'broken.jpg').write_bytes(b'no image')
    (tmp_path / 'run/unreadable_files.txt').mkdir(parents=True)
    assert train(config(images, tmp_path / 'run', iters=3)).iter == 3
    [log] = tmp_path.glob('run/*/*.log')
    assert 'unreadable_files.txt: not written (' in log.read_text()


def test_the_config_of_whoever_trains(photos, tmp_path):
    """Neither a test nor a training that is refused writes its own."""
    cfg = config(photos, tmp_path / 'run', epochs=1)
    cfg.dump(tmp_path / 'config.py')
    cfg = Config.fromfile(tmp_path / 'config.py')
    SAIMRunner.from_cfg(cfg)
    refused = copy.deepcopy(cfg)
    refused.train_dataloader.batch_size = 1000  # there are fewer images
    with pytest.raises(ValueError, match='batch_size=1000: must be'):
        train(refused)
    assert not (tmp_path / 'run/config.py').exists()
    train(cfg)
    assert (tmp_path / 'run/config.py').is_file()
