"""torchrun starts what died again, and training goes on."""

import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import (
    ROOT,
    assert_same,
    config,
    free_port,
    start,
    start_two,
    weights,
    write,
)

from saim_mm.checkpoint.loader import load_from_local
from saim_mm.engine.resume import find_checkpoints

pytestmark = pytest.mark.slow


def worker(run):
    """The number of a training process, not of torchrun's."""
    for folder in Path('/proc').glob('[0-9]*'):
        try:
            line = (folder / 'cmdline').read_bytes().split(b'\0')
            environment = (folder / 'environ').read_bytes()
        except OSError:
            continue
        if (
            str(run).encode() in line
            and any(part.endswith(b'train.py') for part in line[:4])
            and b'\0LOCAL_RANK=1\0' in environment
        ):
            return int(folder.name)
    return None


def wait_for_another(process, run):
    """Until there is a newer checkpoint."""
    known = find_checkpoints(run)[:1] if run.exists() else []
    while not run.exists() or find_checkpoints(run)[:1] == known:
        assert process.poll() is None
        time.sleep(0.01)


def test_one_of_two_is_killed(forty_images, tmp_path, monkeypatch):  # noqa: F811
    """By kill -9; the end is that of two undisturbed."""
    cfg = config(forty_images, tmp_path, iters=60, workers=1)
    path = write(cfg, tmp_path / 'config.py', 4)
    assert start_two(path, tmp_path / 'straight').wait(120) == 0
    run = tmp_path / 'run'
    monkeypatch.setenv('MAX_RESTARTS', '2')
    process = start_two(path, run, '--resume')
    wait_for_another(process, run)
    os.kill(worker(run), signal.SIGKILL)
    assert process.wait(240) == 0
    log = (tmp_path / 'run.log').read_text()
    assert 'Resumed from the last checkpoint' in log
    assert_same(
        weights(tmp_path / 'straight/iter_60.pth'),
        weights(run / 'iter_60.pth'),
    )


def test_torchrun_is_killed(forty_images, tmp_path):
    """By kill -9, which it cannot pass on; then it is started again."""
    cfg = config(forty_images, tmp_path, iters=60, workers=1)
    path = write(cfg, tmp_path / 'config.py', 4)
    run = tmp_path / 'run'
    process = start_two(path, run, '--resume')
    wait_for_another(process, run)
    last = worker(run)
    process.kill()
    process.wait()
    limit = time.time() + 20
    while Path(f'/proc/{last}').exists():
        assert time.time() < limit, 'it trains on'
        time.sleep(0.1)
    assert not (run / 'iter_60.pth').exists()
    assert start_two(path, run, '--resume').wait(240) == 0


def test_a_machine_is_lost(forty_images, tmp_path, monkeypatch):  # noqa: F811
    """Of two, here two of torchrun; the other one goes on alone."""
    path = write(
        config(forty_images, tmp_path, iters=150, workers=1),
        tmp_path / 'config.py',
        4,
    )
    environment = dict(
        os.environ,
        OMP_NUM_THREADS='1',
        MAX_RESTARTS='3',
        NNODES='1:2',
        PORT=str(free_port()),
        PATH=f'{Path(sys.executable).parent}:{os.environ["PATH"]}',
    )
    run = tmp_path / 'run'
    machines = []
    for number in range(2):
        with open(tmp_path / f'{number}.log', 'w') as log:
            machines.append(
                subprocess.Popen(
                    [
                        *(ROOT / 'tools/dist_train.sh', path, '1'),
                        *('--work-dir', run, '--resume'),
                    ],
                    env=environment,
                    stdout=log,
                    stderr=log,
                )
            )
        time.sleep(2)
    wait_for_another(machines[0], run)
    lost = machines[1].pid
    children = Path(f'/proc/{lost}/task/{lost}/children').read_text()
    for number in (lost, *map(int, children.split())):
        os.kill(number, signal.SIGKILL)
    assert machines[0].wait(240) == 0
    log = (tmp_path / '0.log').read_text()
    assert 'GPU number: 2' in log and 'GPU number: 1' in log
    assert 'Resumed from the last checkpoint' in log


def test_one_goes_on_from_two(forty_images, tmp_path):  # noqa: F811
    """Of 40 images 6 in a step, then 3; stopped, mostly within an epoch."""
    cfg = config(forty_images, tmp_path, epochs=40, workers=1)
    path = write(cfg, tmp_path / 'config.py', 3)
    run = tmp_path / 'run'
    process = start_two(path, run, '--resume')
    wait_for_another(process, run)
    process.send_signal(signal.SIGUSR1)  # by torchrun, which passes it on
    process.wait(120)
    checkpoint = load_from_local(run / 'interrupted.pth')
    meta, progress = checkpoint['meta'], checkpoint['progress']
    assert progress['epoch_length'] == 6 and progress['images_per_step'] == 6
    done = (meta['iter'] - meta['epoch'] * 6) * 6
    assert progress['consumed_samples'] == done
    assert start(path, run, '--resume').wait(240) == 0
    log = (tmp_path / 'run.log').read_text()
    assert 'A step now has 3 images; before, it had 6' in log
    begin = (meta['epoch'] + 1) * 13 - (40 - done) // 3
    assert f'this is {begin}, and the learning' in log
    last = load_from_local(run / 'epoch_40.pth')
    assert last['meta']['iter'] == 40 * 13
    scheduler = last['param_schedulers'][0]
    assert scheduler['T_max'] == scheduler['end'] == 40 * 13
    # The closed form of the cosine, in whole epochs.
    rates = re.findall(r'\[(\d+)\]\[ ?(\d+)/13\] .* lr: (\S+)', log)
    assert len(rates) == 40 * 13 - begin
    for epoch, number, rate in rates:
        if int(epoch) > meta['epoch'] + 1:
            part = (int(epoch) - 1 + (int(number) - 1) / 13) / 40
            right = 5e-4 * (1 + math.cos(math.pi * part))
            assert float(rate) == pytest.approx(right, rel=1e-3, abs=1e-7)
