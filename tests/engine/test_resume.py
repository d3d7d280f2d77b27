"""Training goes on as if nothing had happened."""

import copy
import re
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch
from helpers import (
    assert_same,
    call,
    config,
    train,
    weights,
    write_config,
)
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

import saim_mm
from saim_mm import ReproducibleSampler, SafeCheckpointHook
from saim_mm.checkpoint import atomic
from saim_mm.checkpoint.atomic import commit
from saim_mm.checkpoint.loader import load_from_local
from saim_mm.datasets.sampler import SeededIndex
from saim_mm.engine.hooks import deferred_info_hook
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
    endless.load_state_dict(dict(consumed_samples=7))
    assert endless.state_dict() == dict(consumed_samples=7, seed=3, size=10)
    assert [(int(d), d.key) for d, _ in zip(endless, range(18))] == stream[7:]
    other = ReproducibleSampler(data, seed=4, infinite=True)
    other.load_state_dict(endless.state_dict())
    assert [(int(d), d.key) for d, _ in zip(other, range(18))] == stream[7:]

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


def test_signals_are_given_back(images, tmp_path):
    """After an error as after an end: or nothing could stop the process."""
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGUSR1)]
    cfg = config(images, tmp_path, iters=2)
    for hook in (dict(type='StopAfter', iteration=1), None):
        if hook:
            with pytest.raises(KeyboardInterrupt):
                train(cfg, hooks=[hook])
        else:
            train(cfg)
        assert before == [
            signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGUSR1)
        ]


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
    checkpoint = load_from_local(find_checkpoints(cfg.work_dir)[0])
    last, progress = checkpoint['meta'], checkpoint['progress']
    assert progress['epoch_length'] == 5 and progress['images_per_step'] == 4

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
    cfg.default_hooks.checkpoint.max_keep_ckpts = 1
    cfg.train_cfg.max_iters = 9
    train(cfg, resume=True)
    assert sorted(p.name for p in tmp_path.glob('*.pth*')) == [
        'iter_3.pth',
        'iter_6.pth',
        'iter_9.pth',
    ]


def resumed_at(cfg):
    """The first iteration of a training that is resumed."""
    train(cfg, True, [dict(type='NoteRates')])
    return min(NoteRates.rates, default=cfg.train_cfg.max_iters)


def texts(work_dir):
    """All logs of a folder."""
    return '\n'.join(path.read_text() for path in work_dir.glob('*/*.log'))


def not_whole(path):
    """Files of the name of a checkpoint, and what is said of them."""
    content = path.read_bytes()
    weights_alone = path.with_name('weights.pth')
    torch.save(dict(state_dict={}), weights_alone)
    a_list = path.with_name('list.pth')
    torch.save([1, 2], a_list)
    return {
        content[:-1000]: 'truncated',
        b'': '',
        weights_alone.read_bytes(): "has no 'epoch', so no training can go",
        a_list.read_bytes(): "has no 'epoch', so no training can go",
    }


@pytest.mark.parametrize('pointer', ['', '\0' * 9, 'gone/iter_9.pth', None])
def test_the_last_whole_checkpoint_is_found(images, tmp_path, pointer):
    """Whatever is wrong with newer ones: each is named, with the reason."""
    cfg = config(images, tmp_path, iters=3)
    cfg.default_hooks.checkpoint.max_keep_ckpts = -1
    straight = train(cfg)
    broken = tmp_path / 'iter_3.pth'
    kinds = not_whole(broken)
    for number, content in enumerate(kinds, 3):
        (tmp_path / f'iter_{number}.pth').write_bytes(content)
    (tmp_path / f'iter_{number + 1}.pth').mkdir()
    (tmp_path / 'last_checkpoint').unlink()
    if pointer is not None:
        (tmp_path / 'last_checkpoint').write_text(pointer)
    resumed = train(cfg, True, [dict(type='NoteRates')])
    assert list(NoteRates.rates) == [2]
    assert_same(straight.model.state_dict(), resumed.model.state_dict())
    assert_same(weights(broken), straight.model.state_dict())
    log = texts(tmp_path)
    for number, reason in enumerate(kinds.values(), 3):
        assert re.search(f'Passed over .*/iter_{number}.pth: .*{reason}', log)
    assert f'Resumed from the last checkpoint, {tmp_path}/iter_2.pth' in log


def test_none_is_whole(images, tmp_path):
    """To start anew is not what was asked for, and would overwrite them."""
    (tmp_path / 'iter_7.pth').write_bytes(b'broken')
    with pytest.raises(ValueError, match="work_dir='.*': none of its 1 check"):
        train(config(images, tmp_path, iters=1), True)
    assert (tmp_path / 'iter_7.pth').read_bytes() == b'broken'


def test_the_pointed_one_is_gone(images, tmp_path):
    (tmp_path / 'last_checkpoint').write_text('/elsewhere/iter_7.pth')
    with pytest.raises(
        FileNotFoundError,
        match="work_dir='.*': its last_checkpoint names '/elsewhere/iter_7.pt",
    ):
        train(config(images, tmp_path, iters=1), True)
    assert not list(tmp_path.glob('*.pth'))


def test_a_whole_one_of_something_else(images, tmp_path):
    """It is not passed over, because it is not the one that is wrong."""
    cfg = config(images, tmp_path, iters=2)
    train(cfg)
    cfg.model.backbone.arch.num_layers = 2
    cfg.train_cfg.max_iters = 3
    with pytest.raises(ValueError, match='checkpoint has 4 blocks'):
        train(cfg, True)
    assert not (tmp_path / 'iter_3.pth').exists()


def test_a_head_of_something_else(images, tmp_path):
    """Its weights, and their averages in AdamW, would be others' or random."""
    cfg = config(images, tmp_path, iters=2)
    train(cfg)
    cfg.model.head.predictor = 'linear'
    cfg.train_cfg.max_iters = 3
    with pytest.raises(ValueError, match=r"iter_2.pth': not of this model"):
        train(cfg, True)
    assert not (tmp_path / 'iter_3.pth').exists()


@pytest.mark.parametrize('first', ['epochs', 'iters', 'fewer images'])
def test_another_kind_of_training(images, tmp_path, first):
    """Its images are counted otherwise: epochs would be left out, or twice."""
    run = tmp_path / 'run'
    by_epochs, by_iterations = (
        config(images, run, epochs=4) for _ in range(2)
    )
    for cfg in (by_epochs, by_iterations):
        cfg.train_dataloader.batch_size = 2
        cfg.default_hooks.checkpoint.update(by_epoch=False, interval=1)
        cfg.param_scheduler = []
    by_iterations.train_cfg = dict(type='IterBasedTrainLoop', max_iters=20)
    by_iterations.train_dataloader.sampler.infinite = True
    cfg, other = by_epochs, by_iterations
    if first == 'iters':
        cfg, other = other, cfg
    with pytest.raises(KeyboardInterrupt):
        train(cfg, hooks=[dict(type='StopAfter', iteration=9)])
    message = r'sampler\.infinite=.*the checkpoint is of a training by it'
    if first == 'epochs':
        message = message.replace('by it', 'by ep')
    if first == 'fewer images':
        other, few = cfg, tmp_path / 'few'
        few.mkdir()
        for path in sorted(images.iterdir())[:4]:
            (few / path.name).symlink_to(path)
        other.train_dataloader.dataset.data_root = str(few)
        message = r"dataset='4 images': must be that of .*has seen 18 of an"
    with pytest.raises(ValueError, match=message):
        train(other, True)
    assert find_checkpoints(run)[0].name == 'iter_9.pth'


def test_other_groups_of_parameters(images, tmp_path):
    cfg = config(images, tmp_path, iters=1)
    train(cfg)
    cfg.optim_wrapper.paramwise_cfg = None
    with pytest.raises(ValueError, match=r"iter_1.pth': optim_wrapper must"):
        train(cfg, True)


def test_weights_alone_are_no_training(images, tmp_path):
    """Also if load_from names them, and not the folder."""
    cfg = config(images, tmp_path / 'a', iters=1)
    state = train(cfg).model.state_dict()
    cfg.load_from = str(tmp_path / 'x.pth')
    torch.save(dict(state_dict=state), cfg.load_from)
    with pytest.raises(ValueError, match=r"x\.pth': has no 'epoch', so no tr"):
        train(cfg, True)


@pytest.mark.parametrize('pointer', [True, False])
@pytest.mark.parametrize(
    'options',
    [
        dict(),
        dict(out_dir='OUT'),
        dict(filename_tmpl='saim-{:05d}.pt'),
        dict(out_dir='OUT', filename_tmpl='{}', by_epoch=False),
    ],
)
def test_wherever_the_hook_writes(images, tmp_path, options, pointer):
    """By the pointer, and where that is lost by the folder and the names."""
    cfg = config(images, tmp_path / 'run', iters=2)
    options = {
        key: str(tmp_path / 'out') if value == 'OUT' else value
        for key, value in options.items()
    }
    cfg.default_hooks.checkpoint.update(options)
    train(cfg)
    written = Path((tmp_path / 'run/last_checkpoint').read_text())
    assert written.is_file()
    assert (tmp_path / 'out/run' == written.parent) == ('out_dir' in options)
    if not pointer:
        (tmp_path / 'run/last_checkpoint').unlink()
    cfg.train_cfg.max_iters = 3
    assert resumed_at(cfg) == 2


def test_a_pointer_elsewhere(images, tmp_path):
    """As people write it by hand; or the whole folder was moved."""
    cfg = config(images, tmp_path / 'run', iters=2)
    train(cfg)
    (tmp_path / 'run/iter_2.pth').rename(tmp_path / 'kept.pth')
    (tmp_path / 'run/last_checkpoint').write_text(str(tmp_path / 'kept.pth'))
    cfg.train_cfg.max_iters = 3
    assert resumed_at(cfg) == 2
    (tmp_path / 'run').rename(tmp_path / 'moved')
    cfg.work_dir = str(tmp_path / 'moved')
    cfg.train_cfg.max_iters = 4
    assert resumed_at(cfg) == 3
    # Where it was there is another training by now.
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run/iter_4.pth').write_text('of another')
    (tmp_path / 'moved/last_checkpoint').write_text(
        str(tmp_path / 'run/iter_4.pth')
    )
    found = find_checkpoints(tmp_path / 'moved')
    assert found[0] == tmp_path / 'moved/iter_4.pth'
    assert tmp_path / 'run/iter_4.pth' not in found
    # A copy, to go on in another way from before.
    (tmp_path / 'run/last_checkpoint').touch()
    (tmp_path / 'moved/iter_4.pth').unlink()
    (tmp_path / 'moved/iter_3.pth').touch()
    found = find_checkpoints(tmp_path / 'moved')
    assert found[0] == tmp_path / 'moved/iter_3.pth'
    (tmp_path / 'run/last_checkpoint').unlink()


def test_weights_to_start_from(images, tmp_path):
    """Where there is nothing to go on from; then what is there."""
    cfg = config(images, tmp_path / 'first', iters=2)
    cfg.train_dataloader.sampler.shuffle = True
    train(cfg)
    cfg.start_from = str(tmp_path / 'first/iter_2.pth')
    cfg.work_dir, cfg.optim_wrapper.optimizer.lr = str(tmp_path / 'b'), 0
    cfg.param_scheduler = []
    cfg.train_cfg.max_iters = 1
    assert resumed_at(cfg) == 0
    # By the script, whose --resume leaves a load_from out; and without any.
    for name, begin in dict(
        script=dict(load_from=cfg.start_from),
        alone=dict(start_from=cfg.start_from),
    ).items():
        other = copy.deepcopy(cfg)
        other.pop('start_from')
        other.update(begin)
        path = write_config(other, tmp_path / name)
        resume = ['--resume'] * (name == 'script')
        code, output = call(sys.executable, 'tools/train.py', path, *resume)
        assert code == 0, output
        assert_same(
            weights(cfg.start_from), weights(tmp_path / name / 'iter_1.pth')
        )
        # Its own config is not written over.
        assert Config.fromfile(path).to_dict() == other.to_dict()
    given, now = (
        weights(tmp_path / name)
        for name in ('first/iter_2.pth', 'b/iter_1.pth')
    )
    assert_same(given, now)
    cfg.train_cfg.max_iters = 3
    cfg.start_from = 'gone.pth'
    assert resumed_at(cfg) == 1


def test_other_images_and_a_loop_that_does_not_skip(images, tmp_path):
    """They are another order: the log says so."""
    folder = tmp_path / 'images'
    shutil.copytree(images, folder, symlinks=True)
    cfg = config(folder, tmp_path / 'run', iters=2)
    train(cfg)
    cfg.train_cfg.update(max_iters=3, fast_forward_on_resume=True)
    assert resumed_at(cfg) == 2
    assert 'some come twice' not in texts(tmp_path / 'run')
    sorted(folder.iterdir())[0].unlink()
    cfg.train_cfg.max_iters = 4
    assert resumed_at(cfg) == 3
    text = texts(tmp_path / 'run')
    assert 'There are 22 images now; before, there were 23' in text


def test_no_more_is_kept_of_a_log_than_is_read(images, tmp_path, monkeypatch):
    """Each iteration copies all of it."""
    monkeypatch.setattr(deferred_info_hook, 'KEPT', 6)
    cfg = config(images, tmp_path / 'run', epochs=3)
    lengths = []
    for windows in ([], ['global'], [12], [None]):
        custom = [
            dict(data_src='loss', method_name='min')
            if size is None
            else dict(data_src='loss', method_name='mean', window_size=size)
            for size in windows
        ]
        cfg.log_processor = dict(by_epoch=True, custom_cfg=custom)
        hub = train(cfg).message_hub
        lengths.append({len(log.data[0]) for log in hub.log_scalars.values()})
    assert lengths == [{10}, {15}, {12}, {15}]  # MMEngine's window is 10


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
    write_kind(tmp_path / 'interrupted.pth.aside', True, 'of long ago')
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


@pytest.mark.parametrize('measures', [['acc'], ['acc', 'other']])
def test_the_best_is_removed_after_the_better_is_there(
    images, tmp_path, measures, monkeypatch
):
    """Killed in between there would be none, and its score would stay."""
    cfg = config(images, tmp_path, iters=1)
    cfg.default_hooks.checkpoint.update(
        save_best=measures if measures[1:] else 'acc', rule='greater'
    )
    runner = train(cfg)
    [hook] = [h for h in runner.hooks if isinstance(h, SafeCheckpointHook)]

    def best():
        return sorted(path.name for path in tmp_path.glob('best_*'))

    def after(step, score):
        runner.train_loop._iter = step
        hook._save_best_checkpoint(runner, dict.fromkeys(measures, score))
        return best()

    names = {i: [f'best_{x}_iter_{i}.pth' for x in measures] for i in (1, 3)}
    assert after(1, 0.5) == names[1]
    assert after(2, 0.4) == names[1]
    save, seen = runner.save_checkpoint, []

    def fail(*args, **kwargs):
        seen.append(best())
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(runner, 'save_checkpoint', fail)
    with pytest.raises(OSError):
        after(3, 0.6)
    assert seen == [names[1]]
    monkeypatch.setattr(runner, 'save_checkpoint', save)
    assert after(3, 0.7) == names[3]
