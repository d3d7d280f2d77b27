"""Malformed settings: each gets a message that names field and value."""

from copy import deepcopy

import pytest
from helpers import config
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from saim_mm import SAIMRunner


@HOOKS.register_module()
class Reached(Hook):
    """Says that a malformed config got as far as the first iteration."""

    def before_train_iter(self, *args, **kwargs):
        raise AssertionError('the first iteration was reached')


words = st.text('abcdefgh', min_size=1, max_size=8)
negative = st.integers(-100, -1)
not_whole = st.one_of(words, st.floats(0.1, 0.9), st.just(True))
not_a_number = st.one_of(
    words, st.just(float('nan')), st.just(float('inf')), st.just([1])
)
missing = words.map(lambda w: f'/nowhere/{w}')
count = st.one_of(negative, st.just(0), not_whole)
rate = st.one_of(st.floats(-10, -0.001), not_a_number)

#: Field -> values that are wrong.
WRONG = {
    'model.backbone.arch': st.one_of(
        words, st.just({}), st.just(dict(embed_dims=24)), st.integers()
    ),
    'model.backbone.img_size': st.one_of(
        negative, st.integers(1, 31).filter(lambda n: n % 8), words
    ),
    'model.backbone.patch_size': st.one_of(
        negative, st.just(0), st.sampled_from([3, 5, 7, 33]), words
    ),
    'model.order': words,
    'model.neck.depth': st.one_of(
        negative, st.sampled_from([3, 5, 8]), st.just(1.5), words
    ),
    'model.target_generator.kernel_size': st.one_of(
        negative, st.sampled_from([0, 2, 8]), st.just(2.5), words
    ),
    'model.target_generator.sigma': st.one_of(
        st.floats(-5, 0), st.just(float('nan')), words
    ),
    'model.head.predictor': words,
    'model.head.loss.criterion': words,
    'train_dataloader.batch_size': st.one_of(count, st.integers(1000, 10000)),
    'train_dataloader.num_workers': st.one_of(negative, not_whole),
    'train_dataloader.dataset.data_root': missing,
    'train_dataloader.dataset.max_corrupt_ratio': st.one_of(
        st.floats(1.1, 9), st.floats(-5, -0.1)
    ),
    'train_dataloader.dataset.ann_file': missing,
    'train_cfg.max_epochs': count,
    'optim_wrapper.optimizer.lr': rate,
    'optim_wrapper.optimizer.weight_decay': rate,
    'optim_wrapper.accumulative_counts': count,
    'optim_wrapper.type': words,
    'optim_wrapper.optimizer.type': words,
    'default_hooks.checkpoint.interval': st.one_of(
        st.integers(-9, -2), st.just(0), not_whole
    ),
    'default_hooks.checkpoint.max_keep_ckpts': st.one_of(
        st.integers(-9, -2), st.just(0), not_whole
    ),
    'default_hooks.checkpoint.keep_every': st.one_of(negative, st.just(0)),
    'default_hooks.non_finite.policy': words,
    'default_hooks.non_finite.max_times': st.one_of(negative, st.just(0)),
    'randomness.seed': st.one_of(negative, not_whole),
    'load_from': missing,
    'resume': st.one_of(words, st.integers()),
}


@pytest.fixture(scope='module')
def good(photos, tmp_path_factory):
    return config(photos, tmp_path_factory.mktemp('settings'), epochs=1)


def test_wrong_values(good, read_once):
    """At least 200, of every field."""
    tried = set()
    for field, wrong in WRONG.items():
        for value in values(wrong, 10):
            tried.add((field, repr(value)))
            check_refused(good, field, value, f'settings_{len(tried)}')
    assert len(tried) >= 200
    assert {field for field, _ in tried} == set(WRONG)


def values(strategy, number):
    """Different ones, as many as there are but no more than that."""
    found = {}

    @settings(
        max_examples=number,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(value=strategy)
    def keep(value):
        found[repr(value)] = value

    keep()
    return found.values()


def check_refused(good, field, value, name_of_run):
    cfg = deepcopy(good)
    node = cfg
    *path, name = field.split('.')
    for part in path:
        node = node.setdefault(part, {})
    node[name] = value
    cfg.experiment_name = cfg.visualizer.name = name_of_run
    cfg.custom_hooks = [dict(type='Reached')]
    with pytest.raises(Exception) as error:
        SAIMRunner.from_cfg(cfg).train()
    case = field, value
    message = f'{type(error.value).__name__}: {error.value}'
    assert 'iteration was reached' not in message, case
    assert name in message, (case, message)
    shown = value if isinstance(value, str) else repr(value)
    assert shown in message, (case, message)


def test_the_good_one_is_good(good):
    cfg = deepcopy(good)
    cfg.experiment_name = cfg.visualizer.name = 'settings_good'
    assert SAIMRunner.from_cfg(cfg).train() is not None
