"""DeepSpeed's ZeRO by config."""

import shutil
import sys

import pytest
import torch
from test_distribution import (
    images,  # noqa: F401  a fixture
    start_two,
    write,
)
from test_resume import config, start, weights

from saim_mm import DeepSpeedRunner
from saim_mm.checkpoint import read_weights


def zero(images, tmp_path, iters, **options):  # noqa: F811
    """As the documentation says; AdamW whose steps depend on gradients."""
    cfg = config(images, tmp_path, iters=iters, workers=1)
    cfg.optim_wrapper.optimizer.update(lr=0.5, eps=1.0)
    cfg.param_scheduler = []
    cfg.default_hooks.checkpoint.max_keep_ckpts = -1
    one = write(cfg, tmp_path / 'one.py', 8)
    cfg.runner_type = 'DeepSpeedRunner'
    cfg.strategy = dict(type='DeepSpeedStrategy', **options)
    cfg.optim_wrapper.type = 'DeepSpeedOptimWrapper'
    return one, write(cfg, tmp_path / 'two.py', 4), cfg


def test_what_is_missing(images, tmp_path, monkeypatch):  # noqa: F811
    _, _, cfg = zero(images, tmp_path, 1)
    monkeypatch.setitem(sys.modules, 'deepspeed', None)
    with pytest.raises(ImportError, match=r"pip install 'saim_mm\[deepspeed"):
        DeepSpeedRunner.from_cfg(cfg)
    monkeypatch.setitem(sys.modules, 'deepspeed', sys)  # stands in
    cfg.fsdp = True
    with pytest.raises(ValueError, match='fsdp=True: must be False with'):
        DeepSpeedRunner.from_cfg(cfg)
    cfg.fsdp = False
    cfg.strategy = dict(
        type='DeepSpeedStrategy', zero_optimization=dict(stage=3)
    )
    with pytest.raises(ValueError, match='stage=3: must be 1 or 2; to share'):
        DeepSpeedRunner.from_cfg(cfg)


@pytest.mark.slow  # it compiles
@pytest.mark.parametrize('stage', [1, 2])
def test_two_share_what_one_has(images, tmp_path, stage):  # noqa: F811
    """The same weights; killed after the third step, too."""
    pytest.importorskip('deepspeed')
    one, two, _ = zero(
        images, tmp_path, 6, zero_optimization=dict(stage=stage)
    )
    assert start(one, tmp_path / 'one').wait(300) == 0
    assert start_two(two, tmp_path / 'two').wait(300) == 0
    (tmp_path / 'again').mkdir()
    shutil.move(tmp_path / 'two/iter_3.pth', tmp_path / 'again')
    assert start_two(two, tmp_path / 'again', '--resume').wait(300) == 0
    assert not (tmp_path / 'again/iter_2.pth').exists()
    names = ('one', 'two', 'again')
    logs = [(tmp_path / f'{name}.log').read_text() for name in names]
    last = [float(log.rsplit('loss: ', 1)[1].split()[0]) for log in logs]
    assert last[1] == pytest.approx(last[2], abs=1e-6)
    first, second, third = (
        read_weights(tmp_path / f'{name}/iter_6.pth') for name in names
    )
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(third[name], value, rtol=1e-4, atol=1e-6)
    moved = value - weights(tmp_path / 'one/iter_1.pth')[name]
    assert moved.abs().max() > 1e-4
