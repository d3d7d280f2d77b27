"""kill -9 at any moment: training goes on as if nothing had happened."""

import json
import math
import random
import re
import time
from collections import Counter
from pathlib import Path

import pytest
import torch
from helpers import config, fork, free_port

from saim_mm.checkpoint.loader import load_from_local
from saim_mm.engine.resume import find_checkpoints

#: How checkpoints are saved, every how many iterations that is, and the
#: number of processes.
KINDS = {
    'epochs': (dict(by_epoch=True, interval=1), 5, 1),
    'iterations in epochs': (dict(by_epoch=False, interval=4), 4, 1),
    'iterations': (dict(by_epoch=False, interval=1), 1, 1),
    'two processes': (dict(by_epoch=False, interval=3), 3, 2),
}


def begin(path, run, processes):
    """Start a training, or go on with it."""
    common = ('tools/train.py', path, '--work-dir', run, '--resume')
    if processes == 1:
        return [fork(*common, output=f'{run}.log')]
    port = str(free_port())
    return [
        fork(
            *(*common, '--launcher', 'pytorch'),
            output=f'{run}.log',
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            WORLD_SIZE=str(processes),
            MASTER_ADDR='127.0.0.1',
            MASTER_PORT=port,
        )
        for rank in range(processes)
    ]


def end(started, limit):
    for process in started:
        process.join(limit)
        assert process.exitcode == 0


def logged(run):
    """Everything of every iteration but times, which must not differ."""
    found = {}
    for path in sorted(run.glob('*/vis_data/scalars.json')):
        for line in path.read_text().splitlines(keepends=True):
            if not line.endswith('\n'):
                continue  # the process was killed while it wrote
            values = {
                key: value
                for key, value in json.loads(line).items()
                if key in ('loss', 'lr', 'epoch', 'iter', 'step')
            }
            assert found.setdefault(values['iter'], values) == values
    return found


def inner(run):
    """The iteration of the whole training -> how the log counts it."""
    lines = re.findall(
        r'(Epoch\(train\) +\[\d+\]\[ *\d+/\d+\]|Iter\(train\) \[.*?\])',
        ''.join(p.read_text() for p in sorted(run.glob('*/*.log'))),
    )
    return set(lines)


def assert_equal(first, second, place=''):
    """Of trees of tensors and numbers, to the bit."""
    assert type(first) is type(second), place
    if isinstance(first, dict):
        assert first.keys() == second.keys(), place
        for key, value in first.items():
            assert_equal(value, second[key], f'{place}.{key}')
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second), place
        for number, pair in enumerate(zip(first, second)):
            assert_equal(*pair, f'{place}.{number}')
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second), place
    else:
        assert first == second, place


def soak(kind, photos, tmp_path, kills):
    """Kill a training at random moments; compare with an undisturbed one."""
    moments = random.Random(kind)
    saving, period, processes = KINDS[kind]
    length = 5 * max(5, 4 * period * kills // 5)
    images = tmp_path / 'images'  # of which one is broken
    images.mkdir()
    for path in sorted(photos.iterdir())[:19]:
        (images / path.name).symlink_to(path)
    (images / 'broken.jpg').write_bytes(b'\xff\xd8\xff\xe0 and no more')
    cfg = config(
        images,
        tmp_path / 'run',
        workers=1,
        **(
            dict(iters=length)
            if kind == 'iterations'
            else dict(epochs=length // 5)
        ),
    )
    cfg.default_hooks.checkpoint.update(saving)
    cfg.train_dataloader.batch_size = 4 // processes
    cfg.dump(tmp_path / 'config.py')
    run, straight = tmp_path / 'run', tmp_path / 'straight'
    last = f'iter_{length}.pth'
    if saving['by_epoch']:
        last = f'epoch_{length // 5}.pth'
    limit = 120 + length  # seconds, on a machine that does other things too
    undisturbed = begin(tmp_path / 'config.py', straight, processes)
    usual, phases = 0.0, Counter()
    for kill in range(kills):
        began = time.time()
        newest = find_checkpoints(run)[:1]
        assert not (run / last).exists(), 'kills come too late'
        started = begin(tmp_path / 'config.py', run, processes)
        # Most of a run is starting: wait for the first new checkpoint, then
        # any moment of the next ones; every fifth is killed while it starts.
        early = kill % 5 == 4
        until = began + moments.uniform(0, usual) if early else math.inf
        while find_checkpoints(run)[:1] == newest and time.time() < until:
            assert all(process.is_alive() for process in started)
            time.sleep(0.01)
        if find_checkpoints(run)[:1] != newest:
            usual = time.time() - began
            time.sleep(moments.uniform(0, 0.1))
        loaders = [
            number
            for path in Path('/proc').glob('[0-9]*/task/[0-9]*/children')
            if int(path.parts[2]) in [process.pid for process in started]
            for number in path.read_text().split()
        ]
        moments.shuffle(started)
        for process in started:
            process.kill()
            time.sleep(moments.choice([0, 0.05]))
        for process in started:
            process.join(120)
        writing = [p.name for p in run.iterdir()] if run.is_dir() else []
        phases[
            'starting'
            if find_checkpoints(run)[:1] == newest
            else 'writing'
            if any(name.endswith(('.part', '.aside')) for name in writing)
            else 'training'
        ] += 1
        gone = time.time() + 20
        while any(Path('/proc', number).exists() for number in loaders):
            assert time.time() < gone, 'loading processes live on'
            time.sleep(0.1)
    print(f'{kind}: killed while {dict(phases)}')
    end(begin(tmp_path / 'config.py', run, processes), limit)
    end(undisturbed, limit)
    first, second = (
        load_from_local(folder / last) for folder in (straight, run)
    )
    for key in ('state_dict', 'optimizer', 'param_schedulers', 'progress'):
        assert_equal(first[key], second[key], key)
    assert first['meta']['iter'] == second['meta']['iter'] == length
    losses = logged(straight)
    assert sorted(losses) == list(range(1, length + 1))
    assert logged(run) == losses
    assert inner(run) == inner(straight) and len(inner(run)) == length


@pytest.mark.parametrize('kind', KINDS)
def test_kill(kind, photos, tmp_path):
    soak(kind, photos, tmp_path, kills=2)


@pytest.mark.slow
@pytest.mark.parametrize('kind', KINDS)
def test_kill_often(kind, photos, tmp_path):
    soak(kind, photos, tmp_path, kills=50)
