"""Losses and gradients that are not finite."""

import functools
from types import SimpleNamespace

import helpers
import pytest
import torch
from helpers import assert_same, train, weights
from mmengine.hooks import Hook
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import HOOKS

from saim_mm import NonFiniteHook
from saim_mm.checkpoint.loader import load_from_local
from saim_mm.engine.hooks.non_finite_hook import files_of


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


def test_where_only_losses_are_looked_at():
    """A loss scaler leaves steps out, for ever if each loss is infinite."""
    wrapper = object.__new__(AmpOptimWrapper)  # which takes a GPU
    logger = SimpleNamespace(error=print)
    runner = SimpleNamespace(
        optim_wrapper=wrapper, rank=0, iter=0, logger=logger
    )
    hook = NonFiniteHook(policy='restore')
    with pytest.raises(ValueError, match='policy=.restore.: must be .stop.'):
        hook.before_train(runner)
    hook = NonFiniteHook(policy='skip', max_times=2)
    hook.before_train(runner)
    with pytest.raises(FloatingPointError, match='max_times=2: stopped'):
        for _ in range(4):
            hook.after_train_iter(runner, 0, {}, {'loss': float('nan')})
    assert hook.times == 3


def test_twice(config, images, tmp_path):
    """A hook more, and a training that goes on after it was stopped."""
    cfg = config(images, tmp_path, iters=4)
    cfg.default_hooks.checkpoint.interval = 100
    hooks = [
        dict(type='NonFiniteHook'),
        dict(type='Spoil', iterations=[2], gradient=True),
        dict(type='KeepModel'),
    ]
    with pytest.raises(FloatingPointError, match='in iteration 2,'):
        train(cfg, hooks=hooks)
    runner = KeepModel.runner
    assert not hasattr(runner.optim_wrapper.optimizer, 'found_inf')
    runner.train()
    assert runner.iter == 4
    for value in runner.model.state_dict().values():
        assert value.isfinite().all()


def test_restored_once(config, images, tmp_path):
    """Not again for the iteration that ran on the weights of before."""
    cfg = config(images, tmp_path, iters=6)
    cfg.default_hooks.non_finite.update(policy='restore', max_times=1)
    cfg.default_hooks.checkpoint.update(interval=2, save_last=False)
    cfg.default_hooks.logger.interval = 100
    train(cfg, hooks=[dict(type='Spoil', iterations=[3, 4], gradient=True)])
    [log] = tmp_path.glob('*/*.log')
    assert log.read_text().count('Weights and optimiser are those of') == 1


@pytest.mark.parametrize('strict', [False, True])
def test_clipped_gradients(config, images, tmp_path, strict):
    """The step is left out before the norm is looked at, or logged."""
    cfg = config(images, tmp_path, iters=4)
    cfg.default_hooks.non_finite.policy = 'skip'
    cfg.optim_wrapper.clip_grad = dict(max_norm=1.0, error_if_nonfinite=strict)
    spoil = dict(type='Spoil', iterations=[2], gradient=True)
    runner = train(cfg, hooks=[spoil])
    norms, _ = runner.message_hub.get_scalar('train/grad_norm').data
    assert len(norms) == 3 and all(norm > 0 for norm in norms)


@pytest.mark.parametrize(
    'make',
    [
        lambda parameters: torch.optim.SGD(
            parameters, 0.1, momentum=0.9, fused=True
        ),
        lambda parameters: torch.optim.Adam(parameters, 0.1, fused=True),
        lambda parameters: torch.optim.AdamW(parameters, 0.1, fused=True),
    ],
)
def test_the_first_step_of_each_optimizer(make):
    """Nothing of what was left out comes back with the second."""
    parameter = torch.nn.Parameter(torch.ones(64))
    optimizer = make([parameter])
    runner = SimpleNamespace(
        optim_wrapper=OptimWrapper(optimizer), model=torch.nn.Identity()
    )
    NonFiniteHook().before_train(runner)
    for gradient in (float('nan'), 1.0):
        before = parameter.detach().clone()
        parameter.grad = torch.full_like(parameter, gradient)
        torch.empty(64).fill_(float('nan'))  # what memory may hold
        runner.optim_wrapper.step()
        assert torch.equal(parameter, before) == (gradient != 1.0)
    assert parameter.isfinite().all() and (parameter < 1).all()


@pytest.mark.parametrize(
    'batch',
    [None, [1, 2], dict(data_samples=torch.ones(2)), dict(data_samples=[[1]])],
    ids=repr,
)
def test_batches_of_others(batch):
    assert files_of(batch) == []
    assert files_of(dict(data_samples=[dict(img_path='a'), {}])) == ['a', '?']
