"""Training goes on as if nothing had happened."""

import copy
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from helpers import assert_same, config, start, train, weights
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

import saim_mm
from saim_mm import ReproducibleSampler
from saim_mm.checkpoint import atomic
from saim_mm.checkpoint.atomic import commit
from saim_mm.checkpoint.loader import load_from_local
from saim_mm.datasets.sampler import SeededIndex
from saim_mm.engine.hooks import checkpoint_hook
from saim_mm.engine.resume import find_checkpoints


@pytest.fixture(scope='module')
def images(photos, tmp_path_factory):
    """Twenty-two tiles, and a broken one among them."""
    folder = tmp_path_factory.mktemp('images')
    for path in sorted(photos.iterdir())[:22]:
        (folder / path.name).symlink_to(path)
    (folder / 'broken.jpg').write_bytes(b'\xff\xd8\xff\xe0 and no more')
    return folder


@HOOKS.register_module()
class NoteRates(Hook):
    """Keeps the learning rate of every iteration, of the last training."""

    rates = {}

    def before_train(self, runner):
        self.rates.clear()

    def before_train_iter(self, runner, *args, **kwargs):
        self.rates[runner.iter] = runner.optim_wrapper.get_lr()['lr'][0]


def test_draws():
    """Every pass has every image once; processes share a pass."""
    data = range(10)
    sampler = ReproducibleSampler(data, seed=3)
    passes = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        draws = list(sampler)
        assert sorted(draws) == list(data) and len(sampler) == 10
        passes.append([(int(d), d.key) for d in draws])
    assert passes[0] == passes[2] != passes[1]
    assert len({key for p in passes[:2] for _, key in p}) == 20

    endless = ReproducibleSampler(data, seed=3, infinite=True)
    stream = [(int(d), d.key) for d, _ in zip(endless, range(25))]
    assert [i for i, _ in stream[:10]] == [i for i, _ in passes[0]]
    assert sorted(i for i, _ in stream[10:20]) == list(data)
    endless.skip(7)
    assert [(int(d), d.key) for d, _ in zip(endless, range(18))] == stream[7:]

    parts = []
    for rank in range(3):
        sampler = ReproducibleSampler(data, seed=3)
        sampler.rank, sampler.world_size, sampler.num_samples = rank, 3, 4
        parts.append(list(sampler))
    together = [d for row in zip(*parts) for d in row]
    assert together[:10] == [i for i, _ in passes[0]]
    assert [len(p) for p in parts] == [4, 4, 4]


def test_a_draw_is_a_crop(images):
    """The same pixels, whenever and in whichever process."""
    cfg = config(images, 'none', iters=1)
    dataset = saim_mm.UnlabelledImages(
        **{
            k: v
            for k, v in cfg.train_dataloader.dataset.items()
            if k != 'type'
        }
    )
    torch.manual_seed(1)
    first = dataset[SeededIndex(3, (0, 7))]['inputs']
    state = torch.get_rng_state()
    assert torch.equal(first, dataset[SeededIndex(3, (0, 7))]['inputs'])
    assert not torch.equal(first, dataset[SeededIndex(3, (0, 8))]['inputs'])
    assert not torch.equal(dataset[3]['inputs'], dataset[3]['inputs'])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize('length', [dict(epochs=3), dict(iters=13)])
def test_killed_and_resumed(images, tmp_path, length):
    """The same weights to the bit, by epochs and by iterations."""
    straight = train(config(images, tmp_path / 'a', **length))
    cfg = config(images, tmp_path / 'b', **length)
    for iteration, resume in ((8, False), (11, True)):
        with pytest.raises(KeyboardInterrupt):
            train(cfg, resume, [dict(type='StopAfter', iteration=iteration)])
    resumed = train(cfg, True)
    assert resumed.iter == straight.iter
    assert_same(straight.model.state_dict(), resumed.model.state_dict())
    for first, second in zip(
        straight.optim_wrapper.param_groups, resumed.optim_wrapper.param_groups
    ):
        assert first['lr'] == second['lr']


def test_loading_processes_change_nothing(images, tmp_path):
    runners = [
        train(config(images, tmp_path / str(n), epochs=2, workers=n))
        for n in (0, 2)
    ]
    assert_same(*(runner.model.state_dict() for runner in runners))


def test_a_signal_in_the_middle_of_an_epoch(images, tmp_path):
    straight = train(config(images, tmp_path / 'a', epochs=3))
    cfg = config(images, tmp_path / 'b', epochs=3)
    for iteration, number in ((3, signal.SIGTERM), (9, signal.SIGUSR1)):
        with pytest.raises(SystemExit, match='143'):
            hook = dict(type='StopAfter', iteration=iteration, number=number)
            train(cfg, True, [hook])
        last = find_checkpoints(cfg.work_dir)[0]
        assert last.name == 'interrupted.pth'
        # The signal is seen after the iteration in which it came, or one on.
        done = load_from_local(last)['meta']['iter']
        assert done in (iteration, iteration + 1)
    resumed = train(cfg, True)
    assert resumed.iter == straight.iter == 15
    assert_same(straight.model.state_dict(), resumed.model.state_dict())
    assert not (tmp_path / 'b/interrupted.pth').exists()


@pytest.mark.parametrize('iteration', [None, 8])
def test_steps_of_another_size(images, tmp_path, iteration):
    """As fewer machines make them: schedules go on, by epochs."""
    cfg = config(images, tmp_path / 'run', epochs=3)
    cfg.param_scheduler.insert(
        0,
        dict(
            type='LinearLR',
            start_factor=0.1,
            by_epoch=True,
            end=1,
            convert_to_iter_based=True,
        ),
    )
    cfg.param_scheduler.append(dict(type='StepLR', step_size=1, gamma=0.5))
    cfg.param_scheduler[1].update(T_max=2, begin=1)
    if iteration is None:
        shorter = copy.deepcopy(cfg)
        shorter.train_cfg.max_epochs = 2
        train(shorter)
    else:
        hook = dict(
            type='StopAfter', iteration=iteration, number=signal.SIGTERM
        )
        with pytest.raises(SystemExit, match='143'):
            train(cfg, hooks=[hook])
    last = load_from_local(find_checkpoints(cfg.work_dir)[0])['meta']
    assert last['epoch_length'] == 5 and last['images_per_step'] == 4

    def rates(work_dir, resume=False):
        """Of every iteration; 23 images, 2 at a time, are 11 of an epoch."""
        cfg.work_dir = str(work_dir)
        cfg.train_dataloader.batch_size = 2
        runner = train(cfg, resume, [dict(type='NoteRates')])
        assert runner.iter == 33
        return dict(NoteRates.rates)

    straight = rates(tmp_path / 'straight')
    resumed = rates(tmp_path / 'run', resume=True)
    assert sorted(straight) == list(range(33))
    # 8 or 9 steps of 4: 12 or 16 images of the second epoch; 5 or 3 steps
    # of 2 are left, and another epoch.
    begin = (
        22 if iteration is None else 22 - (23 - (last['iter'] - 5) * 4) // 2
    )
    assert sorted(resumed) == list(range(begin, 33))
    for number, rate in resumed.items():
        assert rate == pytest.approx(straight[number], rel=1e-9), number


def test_a_schedule_that_cannot_follow(images, tmp_path):
    cfg = config(images, tmp_path, epochs=2)
    cfg.param_scheduler = [dict(type='ReduceOnPlateauLR')]
    shorter = copy.deepcopy(cfg)
    shorter.train_cfg.max_epochs = 1
    train(shorter)
    cfg.train_dataloader.batch_size = 2
    with pytest.raises(RuntimeError, match='now has 11 .* had 5.* ReduceOn'):
        train(cfg, resume=True)


def test_what_is_kept(images, tmp_path):
    """The last two, and every third for good; nothing half written."""
    cfg = config(images, tmp_path, iters=8)
    cfg.default_hooks.checkpoint.update(max_keep_ckpts=2, keep_every=3)
    train(cfg)
    assert sorted(p.name for p in tmp_path.glob('*.pth*')) == [
        'iter_3.pth',
        'iter_6.pth',
        'iter_7.pth',
        'iter_8.pth',
    ]
    assert (tmp_path / 'last_checkpoint').read_text().endswith('iter_8.pth')


@pytest.mark.parametrize('pointer', ['', 'gone/iter_9.pth', None])
def test_the_last_whole_checkpoint_is_found(images, tmp_path, pointer):
    cfg = config(images, tmp_path, iters=4)
    straight = train(cfg)
    broken = tmp_path / 'iter_4.pth'
    broken.write_bytes(broken.read_bytes()[:-1000])
    if pointer is not None:
        (tmp_path / 'last_checkpoint').write_text(pointer)
    resumed = train(cfg, True)
    assert_same(straight.model.state_dict(), resumed.model.state_dict())
    assert_same(weights(tmp_path / 'iter_4.pth'), straight.model.state_dict())


def write_kind(path, is_folder, text):
    """A file, or a folder with a file and a folder in it."""
    if is_folder:
        (path / 'deeper').mkdir(parents=True)
        path /= 'rest.pth'
    path.write_text(text)


def read_kind(path):
    return (path / 'rest.pth' if path.is_dir() else path).read_text()


@pytest.mark.parametrize('before', [None, False, True])
@pytest.mark.parametrize('after', [False, True])
def test_files_and_folders_of_a_name(tmp_path, monkeypatch, before, after):
    """One replaces the other, and there is always one."""
    path = tmp_path / 'interrupted.pth'
    (tmp_path / 'last_checkpoint').write_text(str(path))
    if before is not None:
        write_kind(path, before, 'before')
    write_kind(tmp_path / 'interrupted.pth.old', True, 'of long ago')
    write_kind(atomic.tmp_path(path), after, 'after')
    states = []
    replace = Path.replace

    def replace_noting(source, target):
        replace(source, target)
        states.append([read_kind(p) for p in find_checkpoints(tmp_path)[:1]])

    with monkeypatch.context() as patch:
        patch.setattr(Path, 'replace', replace_noting)
        commit(path)
    if before is None:
        assert states == [['after']]
    else:
        assert states in ([['after']], [['before'], ['after']])
    assert find_checkpoints(tmp_path) == [path] and read_kind(path) == 'after'
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {'interrupted.pth', 'last_checkpoint'}

    # It fails halfway: what was there comes back.
    def fail(source, target):
        if source.name.endswith('.part'):
            raise OSError(5, 'Input/output error')
        replace(source, target)

    write_kind(atomic.tmp_path(path), not after, 'later')
    with monkeypatch.context() as patch:
        patch.setattr(Path, 'replace', fail)
        with pytest.raises(OSError, match='Input'):
            commit(path)
    assert find_checkpoints(tmp_path) == [path] and read_kind(path) == 'after'


def test_a_folder_where_a_file_is_written(images, tmp_path):
    """Left by a training with fsdp, whole and in parts."""
    cfg = config(images, tmp_path, iters=1)
    for name in ('iter_1.pth', 'iter_1.pth.part'):
        write_kind(tmp_path / name, True, 'of fsdp')
    train(cfg)
    assert (tmp_path / 'iter_1.pth').is_file()
    assert not list(tmp_path.glob('*.pth.*'))


def test_nothing_to_resume(images, tmp_path):
    assert train(config(images, tmp_path, iters=1), True).iter == 1


def test_disk_is_full(images, tmp_path, monkeypatch):
    """While writing: what was there stays. Before: nothing starts."""
    cfg = config(images, tmp_path / 'a', iters=3)

    def half(checkpoint, path, *args, **kwargs):
        if 'iter_2' in str(path):
            Path(path).write_bytes(b'half')
            raise OSError(28, 'No space left on device')
        torch.save(checkpoint, path)

    with monkeypatch.context() as patch:
        patch.setattr('mmengine.runner.runner.save_checkpoint', half)
        with pytest.raises(
            OSError, match='iter_2.pth: not written .*No space'
        ):
            train(cfg)
    assert {p.name for p in (tmp_path / 'a').glob('iter*')} == {'iter_1.pth'}
    assert find_checkpoints(cfg.work_dir)[0].name == 'iter_1.pth'

    usage = type('Usage', (), dict(free=1000))
    monkeypatch.setattr('shutil.disk_usage', lambda path: usage)
    with pytest.raises(
        OSError, match=r"work_dir='.*b': the disk has 0.00 GiB"
    ):
        train(config(images, tmp_path / 'b', iters=1))


def test_folder_that_cannot_be_written(images, tmp_path, monkeypatch):
    def refuse(path, content):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr(checkpoint_hook, 'atomic_write', refuse)
    with pytest.raises(OSError, match='cannot be written, so no checkpoint'):
        train(config(images, tmp_path, iters=1))


def soak(images, tmp_path, kills, iters):
    """Kill a training at random moments; compare with an undisturbed one."""
    moments = random.Random(0)
    cfg = config(images, tmp_path / 'run', iters=iters, workers=1)
    cfg.dump(tmp_path / 'config.py')
    straight, run = tmp_path / 'straight', tmp_path / 'run'
    limit = 120 + iters  # seconds, on a machine that does other things too
    assert start(tmp_path / 'config.py', straight).wait(limit) == 0
    longest = 0.0
    for kill in range(kills):
        began = time.time()
        before = len(find_checkpoints(run)) if run.exists() else 0
        process = start(tmp_path / 'config.py', run, '--resume')
        # Most of a run is starting: wait for the first new checkpoint, then
        # any moment of the next ones; every fifth is killed while it starts.
        if kill % 5 == 4:
            time.sleep(moments.uniform(0, longest))
        else:
            newest = find_checkpoints(run)[:1] if before else []
            while process.poll() is None and (
                not run.exists() or find_checkpoints(run)[:1] == newest
            ):
                time.sleep(0.01)
            longest = max(longest, time.time() - began)
            time.sleep(moments.uniform(0, 0.2))
        children = Path(f'/proc/{process.pid}/task/{process.pid}/children')
        loaders = children.read_text().split() if children.exists() else []
        process.kill()
        process.wait(120)
        gone = time.time() + 20
        while any(Path('/proc', number).exists() for number in loaders):
            assert time.time() < gone, 'loading processes live on'
            time.sleep(0.1)
    assert not (run / f'iter_{iters}.pth').exists(), 'all kills came too late'
    assert start(tmp_path / 'config.py', run, '--resume').wait(limit) == 0
    assert_same(
        weights(straight / f'iter_{iters}.pth'),
        weights(run / f'iter_{iters}.pth'),
    )


def test_soak_short(images, tmp_path):
    soak(images, tmp_path, kills=2, iters=60)


@pytest.mark.slow
def test_soak(photos, tmp_path):
    """Fifty kills, with one broken image in a hundred."""
    images = tmp_path / 'images'
    images.mkdir()
    for number in range(3):
        for path in photos.iterdir():
            (images / f'{number}_{path.name}').symlink_to(path)
    number = len(list(images.iterdir()))
    for broken in range(number // 100 + 1):
        (images / f'broken_{broken}.jpg').write_bytes(b'\xff\xd8 broken')
    soak(images, tmp_path, kills=50, iters=600)
