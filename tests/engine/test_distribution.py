"""Several processes train as one does, and survive what one survives."""

import os
import signal
import subprocess
import time

import pytest
import torch
from helpers import (
    ROOT,
    assert_same,
    call,
    config,
    in_two,
    kill_all,
    start_two,
    train,
    trains,
    weights,
    write,
)

from saim_mm.checkpoint.loader import load_from_local
from saim_mm.engine.resume import find_checkpoints


def test_two_are_one(forty_images, tmp_path):
    """The same images, crops and orders; weights to rounding, after 10 steps.

    Learning rates are such that a wrong gradient of one image would show.
    """
    cfg = config(forty_images, tmp_path / 'one', epochs=2)
    cfg.optim_wrapper.optimizer = dict(type='SGD', lr=0.5, weight_decay=0)
    cfg.optim_wrapper.constructor = 'DefaultOptimWrapperConstructor'
    cfg.train_dataloader.batch_size = 8
    train(cfg)
    cfg.work_dir = str(tmp_path / 'two')
    cfg.train_dataloader.batch_size = 4
    in_two(trains, tmp_path, cfg)
    first, second = (
        load_from_local(tmp_path / name / 'epoch_2.pth')
        for name in ('one', 'two')
    )
    assert first['meta']['iter'] == second['meta']['iter'] == 10
    for name, value in first['state_dict'].items():
        torch.testing.assert_close(
            second['state_dict'][name], value, rtol=1e-4, atol=1e-6
        )
    # And not by standing still.
    cfg = config(forty_images, tmp_path / 'begin', epochs=1)
    cfg.optim_wrapper.optimizer.lr = 0.0
    begin = train(cfg)
    name = 'backbone.layers.0.attn.qkv.weight'
    moved = first['state_dict'][name] - begin.model.state_dict()[name]
    assert moved.abs().max() > 1e-3


@pytest.mark.slow
def test_two_are_killed_and_stopped(forty_images, tmp_path):
    """kill -9 of both, then SIGTERM; the end is that of two undisturbed."""
    cfg = config(forty_images, tmp_path, iters=300, workers=1)
    path = write(cfg, tmp_path / 'config.py', 4)
    assert start_two(path, tmp_path / 'straight').wait(120) == 0
    run = tmp_path / 'run'
    for number in (signal.SIGKILL, signal.SIGTERM):
        known = find_checkpoints(run)[:1] if run.exists() else []
        process = start_two(path, run, '--resume')
        while process.poll() is None and (
            not run.exists() or find_checkpoints(run)[:1] == known
        ):
            time.sleep(0.01)
        if number == signal.SIGKILL:
            kill_all(str(run))  # torchrun and what it started
        else:
            process.send_signal(number)
        process.wait(120)
    assert (run / 'interrupted.pth').is_file()
    assert not (run / 'iter_300.pth').exists()
    assert start_two(path, run, '--resume').wait(120) == 0
    assert_same(
        weights(tmp_path / 'straight/iter_300.pth'),
        weights(run / 'iter_300.pth'),
    )


def test_accumulated_images_count(forty_images, tmp_path):
    """The rule of the paper: the rate by the images of a step."""
    cfg = config(forty_images, tmp_path, iters=2)
    cfg.optim_wrapper.accumulative_counts = 4
    cfg.auto_scale_lr = dict(enable=True, base_batch_size=32)
    cfg.param_scheduler = []
    runner = train(cfg)
    # 4 images, 4 times, for a base of 32: half.
    assert runner.optim_wrapper.param_groups[0]['lr'] == pytest.approx(5e-4)
    # MMEngine's callers may leave the rule out.
    runner.scale_lr(runner.optim_wrapper)
    assert runner.optim_wrapper.param_groups[0]['lr'] == pytest.approx(5e-4)


@pytest.mark.parametrize('status', [0, 1, 143])
@pytest.mark.parametrize(
    'stopped', [None, 'USR1', 'USR1 TERM', 'TERM', 'scancel']
)
def test_slurm_puts_the_job_back(tmp_path, stopped, status):
    """With stand-ins for slurm's commands; there is no cluster here."""
    # What slurm says of a job at its end; before it is RUNNING.
    ends = stopped in ('USR1 TERM', 'scancel')
    state = 'COMPLETING PreemptTime=None' if ends else 'RUNNING'
    # The step goes on for a moment after the signal.
    wait = f'until [ -e {tmp_path}/signal ]; do sleep 0.05; done; sleep 0.3'
    for name, text in dict(
        srun=f'echo "srun $@"; {wait if stopped else ":"}; exit {status}',
        scancel=f'echo "scancel $@"; touch {tmp_path}/signal',
        scontrol=f'echo "scontrol $@"; echo JobState={state}',
    ).items():
        (tmp_path / name).write_text(f'#!/bin/sh\n{text}\n')
        (tmp_path / name).chmod(0o755)
    process = subprocess.Popen(
        ['tools/slurm_batch.sh', 'CONFIG', 'DIR', '--amp'],
        env=dict(
            os.environ,
            PATH=f'{tmp_path}:{os.environ["PATH"]}',
            SLURM_JOB_ID='7',
            SLURM_SUBMIT_DIR=str(ROOT),
        ),
        stdout=subprocess.PIPE,
        text=True,
    )
    output = process.stdout.readline()  # of srun
    for name in {None: '', 'scancel': 'TERM'}.get(stopped, stopped).split():
        process.send_signal(signal.Signals[f'SIG{name}'])
        output += process.stdout.readline()  # of scancel
    output += process.communicate()[0]
    assert '--resume --amp' in output and 'train.py CONFIG' in output
    assert ('scancel --signal=USR1 7.0' in output) == bool(stopped)
    back = stopped not in (None, 'scancel') and status != 0
    assert ('scontrol requeue 7' in output) == back
    assert process.returncode == (0 if back else status)


def test_slurm_says_where_to_submit(tmp_path):
    code, output = call(
        *(ROOT / 'tools/slurm_batch.sh', 'CONFIG', 'DIR'),
        folder=tmp_path,
        SLURM_SUBMIT_DIR=str(tmp_path),
    )
    assert code == 2
    assert f'{tmp_path}: must be the folder with tools/train.py' in output


def test_where_each_start_would_begin_anew():
    """With a file behind --resume, in scripts that start by themselves."""
    for words in (['--resume', 'FILE'], ['--resume=FILE']):
        code, output = call(ROOT / 'tools/slurm_batch.sh', 'C', 'DIR', *words)
        assert code == 2 and '--resume: this script gives it' in output
        code, output = call(
            *(ROOT / 'tools/dist_train.sh', 'CONFIG', 2, *words),
            MAX_RESTARTS='3',
        )
        assert code == 2 and 'would begin at FILE each time' in output
