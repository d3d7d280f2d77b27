"""Losses and gradients that are not finite."""

import functools

import helpers
import pytest
import torch
from helpers import assert_same, train, weights
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from saim_mm import NonFiniteHook
from saim_mm.checkpoint.loader import load_from_local


@HOOKS.register_module()
class Spoil(Hook):
    """Makes the loss, or a gradient alone, not a number in some iterations."""

    priority = 'HIGHEST'

    def __init__(self, iterations, gradient=False):
        self.iterations, self.gradient = iterations, gradient

    def before_train(self, runner):
        wrapper, this = runner.optim_wrapper, self
        backward = wrapper.backward

        def spoilt(loss, **kwargs):
            now = runner.iter + 1 in this.iterations
            if now and not this.gradient:
                loss = loss * float('nan')
            backward(loss, **kwargs)
            if now:
                group = wrapper.optimizer.param_groups[0]
                group['params'][0].grad.view(-1)[0] = float('inf')

        wrapper.backward = spoilt


@HOOKS.register_module()
class KeepModel(Hook):
    def before_train(self, runner):
        KeepModel.runner = runner


@pytest.fixture
def images(photos, tmp_path):
    folder = tmp_path / 'images'
    folder.mkdir()
    for path in sorted(photos.iterdir())[:12]:
        (folder / path.name).symlink_to(path)
    return folder


@pytest.fixture(params=[False, True], ids=['not fused', 'fused'])
def config(request):
    """Steps left out by the host, and on the device."""

    def make(*args, **kwargs):
        cfg = helpers.config(*args, **kwargs)
        cfg.optim_wrapper.optimizer.fused = request.param
        return cfg

    return make


@pytest.fixture
def run(config):
    return functools.partial(run_with, config)


def run_with(
    config, images, work_dir, iterations, iters=6, gradient=True, **options
):
    cfg = config(images, work_dir, iters=iters)
    cfg.default_hooks.non_finite.update(options)
    hook = dict(type='Spoil', iterations=iterations, gradient=gradient)
    return train(cfg, hooks=[hook])


@pytest.mark.parametrize('gradient', [True, False])
def test_stop(run, images, tmp_path, gradient):
    """Says where, and of which files; the weights saved are good ones."""
    with pytest.raises(FloatingPointError) as error:
        run(images, tmp_path / 'run', [3], gradient=gradient)
    message = str(error.value)
    assert 'iteration 3, process 0' in message
    assert 'norm of the gradients ' in message
    assert message.count('.jpg') == 4
    saved = sorted(p.name for p in (tmp_path / 'run').glob('*.pth'))
    assert saved == ['iter_2.pth']
    for value in weights(tmp_path / 'run/iter_2.pth').values():
        assert value.isfinite().all()


@pytest.mark.parametrize('iteration', [3, 6])
def test_stop_between_checkpoints(config, images, tmp_path, iteration):
    """One iteration later, or after the last: the weights are good ones."""
    cfg = config(images, tmp_path / 'run', iters=6)
    cfg.default_hooks.checkpoint.interval = 100
    cfg.default_hooks.checkpoint.save_last = False
    cfg.default_hooks.logger.interval = 100
    spoil = dict(type='Spoil', iterations=[iteration], gradient=True)
    with pytest.raises(FloatingPointError, match=f'in iteration {iteration},'):
        train(cfg, hooks=[spoil, dict(type='KeepModel')])
    runner = KeepModel.runner
    assert runner.iter in (iteration, iteration + 1)
    for value in runner.model.state_dict().values():
        assert value.isfinite().all()
    for state in runner.optim_wrapper.optimizer.state.values():
        assert state['exp_avg'].isfinite().all()


def test_skip(config, run, images, tmp_path):
    """That step alone is left out."""
    runner = run(images, tmp_path / 'run', [3], policy='skip')
    assert runner.iter == 6
    for value in runner.model.state_dict().values():
        assert value.isfinite().all()
    cfg = config(images, tmp_path / 'kept', iters=3)
    cfg.default_hooks.non_finite.policy = 'skip'
    cfg.default_hooks.checkpoint.max_keep_ckpts = -1
    train(cfg, hooks=[dict(type='Spoil', iterations=[3], gradient=True)])
    assert_same(
        weights(tmp_path / 'kept/iter_2.pth'),
        weights(tmp_path / 'kept/iter_3.pth'),
    )


def test_skip_too_often(run, images, tmp_path):
    with pytest.raises(FloatingPointError, match='max_times=2: stopped'):
        run(images, tmp_path, [1, 2, 4], policy='skip', max_times=2)


@pytest.mark.parametrize('out_dir', [None, 'out'])
def test_restore(config, images, tmp_path, out_dir):
    """Weights and optimiser are those of the last checkpoint."""
    cfg = config(images, tmp_path / 'run', iters=5)
    cfg.default_hooks.non_finite.policy = 'restore'
    cfg.default_hooks.checkpoint.update(
        interval=2,
        max_keep_ckpts=-1,
        out_dir=out_dir and str(tmp_path / out_dir),
    )
    folder = tmp_path / (out_dir or '') / 'run'
    runner = train(
        cfg, hooks=[dict(type='Spoil', iterations=[4], gradient=True)]
    )
    assert runner.iter == 5
    assert_same(
        weights(folder / 'iter_2.pth'),
        weights(folder / 'iter_4.pth'),
    )
    first, second = (load_from_local(folder / f'iter_{n}.pth') for n in (2, 4))
    states = [
        checkpoint['optimizer']['state'] for checkpoint in (first, second)
    ]
    for number, state in states[0].items():
        assert torch.equal(state['exp_avg'], states[1][number]['exp_avg'])
    # The learning rate goes on.
    rates = [
        checkpoint['optimizer']['param_groups'][0]['lr']
        for checkpoint in (first, second)
    ]
    assert rates[0] != rates[1]


def test_restore_before_any_checkpoint(run, images, tmp_path):
    runner = run(images, tmp_path, [1], policy='restore')
    assert runner.iter == 6


def test_bad_arguments():
    with pytest.raises(ValueError, match="NonFiniteHook.policy='ignore'"):
        NonFiniteHook(policy='ignore')
    with pytest.raises(ValueError, match='NonFiniteHook.max_times=0: must be'):
        NonFiniteHook(max_times=0)
