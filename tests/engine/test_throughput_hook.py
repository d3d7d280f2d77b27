"""What a run can be watched by, as it is in docs/weeks.md."""

import json
import re
import sys
from types import SimpleNamespace

import pytest
import torch
from helpers import ROOT, call, config, train
from mmengine.config import Config
from mmengine.logging import MessageHub

from saim_mm import ThroughputHook

BACKENDS = {
    re.findall(r"type='(\w+)'", text)[-1]: text
    for text in re.findall(
        r'^visualizer = .*?^\)$',
        (ROOT / 'docs/weeks.md').read_text(),
        re.M | re.S,
    )
}


def watched(photos, tmp_path, kind):
    """A config that inherits, with one field more."""
    cfg = config(photos, tmp_path / 'run', iters=3)
    cfg.dump(tmp_path / 'base.py')
    path = tmp_path / 'watched.py'
    path.write_text(f"_base_ = ['base.py']\n{BACKENDS[kind]}\n")
    return path


def test_log(photos, tmp_path):
    cfg = config(photos, tmp_path, iters=3)
    train(cfg)
    [path] = tmp_path.glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == 3
    for line in lines:
        assert line['images_per_second'] == pytest.approx(4 / line['time'])
        assert line['utilization'] == pytest.approx(
            1 - line['data_time'] / line['time']
        )
    [log] = tmp_path.glob('*/*.log')
    assert (
        len(re.findall(r'images_per_second: \d.*util', log.read_text())) == 3
    )


def test_log_of_every_third(photos, tmp_path):
    """The log takes what the hook has averaged as it is."""
    cfg = config(photos, tmp_path, iters=6)
    cfg.default_hooks.logger.interval = 3
    train(cfg)
    [path] = tmp_path.glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == 2
    for line in lines:
        assert line['images_per_second'] == pytest.approx(4 / line['time'])


def test_views_are_one_image():
    hub = MessageHub('views')
    hub.update_scalars({'train/time': 0.5, 'train/data_time': 0.1})
    runner = SimpleNamespace(
        message_hub=hub,
        log_processor=SimpleNamespace(window_size=10),
        world_size=2,
    )
    batch = dict(inputs=[torch.zeros(8, 3, 4, 4)] * 2, data_samples=[None] * 8)
    ThroughputHook().after_train_iter(runner, 0, batch)
    assert hub.get_scalar('train/images_per_second').current() == 32


def test_without_a_timer(photos, tmp_path):
    cfg = config(photos, tmp_path, iters=1)
    cfg.default_hooks.timer = None
    train(cfg)
    [path] = tmp_path.glob('*/vis_data/scalars.json')
    line = json.loads(path.read_text())
    assert 'loss' in line and 'images_per_second' not in line


def test_tensorboard(photos, tmp_path):
    accumulator = pytest.importorskip(
        'tensorboard.backend.event_processing.event_accumulator'
    )
    path = watched(photos, tmp_path, 'TensorboardVisBackend')
    train(Config.fromfile(path))
    [events] = tmp_path.glob('run/*/vis_data/events.out.tfevents*')
    read = accumulator.EventAccumulator(str(events))
    read.Reload()
    for name in ('loss', 'lr', 'images_per_second', 'utilization'):
        assert [s.step for s in read.Scalars(name)] == [1, 2, 3]


@pytest.mark.slow
def test_wandb_without_a_network(photos, tmp_path):
    pytest.importorskip('wandb')
    path = watched(photos, tmp_path, 'WandbVisBackend')
    code, output = call(
        *(sys.executable, 'tools/train.py', path),
        *('--work-dir', tmp_path / 'run'),
        WANDB_MODE='offline',
    )
    assert code == 0, output[-3000:]
    [run] = tmp_path.glob('run/*/vis_data/wandb/offline-run-*/*.wandb')
    assert run.stat().st_size > 1000
