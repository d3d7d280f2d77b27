"""A look while pre-training: what it logs, and that it changes nothing."""

import json
import random
import re
import shutil

import numpy as np
import pytest
import torch
from helpers import (
    assert_same,
    config,
    in_two,
    mae,
    scalars,
    train,
    trains,
    weights,
)
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from saim_mm import ProbeHook
from saim_mm.evaluation.features import (
    build_encoder,
    extract,
    image_folder,
)
from saim_mm.evaluation.knn import vote
from saim_mm.evaluation.rank import rank_me

KEYS = {
    f'probe/{measure}_{readout}'
    for measure in ('knn', 'rank_me')
    for readout in ('cls_token', 'patch_mean')
}


@pytest.fixture(scope='module')
def classes(photos, tmp_path_factory):
    """Seventeen and eighteen tiles of two photographs."""
    root = tmp_path_factory.mktemp('classes')
    for label, prefix, number in (('flower', '1', 17), ('temple', '0', 18)):
        (root / label).mkdir()
        for path in sorted(photos.glob(f'{prefix}*'))[:number]:
            shutil.copy(path, root / label)
    return root


@HOOKS.register_module()
class RecordStates(Hook):
    """The states of all generators after every iteration and epoch."""

    priority = 'LOWEST'

    def __init__(self):
        self.states, self.modes = [], []

    def after_train_iter(self, runner, *args, **kwargs):
        self.states.append(
            (
                random.getstate(),
                np.random.get_state()[1].tolist(),
                torch.get_rng_state().tolist(),
                torch.is_grad_enabled(),
                [module.training for module in runner.model.modules()],
                [p.grad is None for p in runner.model.parameters()],
                runner.model.backbone.out_type,
                runner.model.backbone.out_indices,
            )
        )

    after_train_epoch = after_train_iter


def measured(cfg, checkpoint, folder, k):
    """The values for a checkpoint, computed apart."""
    model = build_encoder(cfg, checkpoint)
    dataset = image_folder(folder, (32, 32), 'folder')
    features = extract(model, dataset, tokens=False, batch_size=7)
    values = {}
    for name, vectors in features.vectors.items():
        right = (
            vote(
                *(vectors, vectors, features.labels, 2, k), leave_one_out=True
            ).argmax(dim=1)
            == features.labels
        )
        values[f'probe/knn_{name}'] = 100 * right.double().mean().item()
        values[f'probe/rank_me_{name}'] = rank_me(vectors)
    return values


@pytest.mark.parametrize('by_epoch', [True, False])
def test_training_is_the_same_to_the_bit(photos, classes, tmp_path, by_epoch):
    """Also where nothing seeds each step anew, and batches are random."""
    length = dict(epochs=3) if by_epoch else dict(iters=4)
    runs = {}
    hook = dict(
        type='ProbeHook', data_root=str(classes), k=5, by_epoch=by_epoch
    )
    for name, hooks in dict(
        without=[], probed=[dict(hook, interval=2, batch_size=8)]
    ).items():
        cfg = config(photos, tmp_path / name, **length)
        del cfg.default_hooks.step_seed
        cfg.train_dataloader.sampler = dict(
            type='DefaultSampler' if by_epoch else 'InfiniteSampler',
            shuffle=True,
        )
        if by_epoch:
            cfg.train_dataloader.dataset.indices = 8
        runs[name] = train(cfg, hooks=[*hooks, dict(type='RecordStates')])
    first, second = runs.values()
    assert_same(first.model.state_dict(), second.model.state_dict())
    states = [
        next(h for h in run.hooks if isinstance(h, RecordStates)).states
        for run in (first, second)
    ]
    assert states[0] == states[1] and len(states[0]) > 4
    optimizers = [
        run.optim_wrapper.state_dict()['state'] for run in (first, second)
    ]
    for one, other in zip(*(o.values() for o in optimizers)):
        assert_same(one, other)

    # After epoch 2 of 3, of two iterations each; or iterations 2 and 4.
    lines = [s for s in scalars(tmp_path / 'probed') if KEYS & set(s)]
    assert [line['step'] for line in lines] == ([4] if by_epoch else [2, 4])
    name = 'epoch_2.pth' if by_epoch else 'iter_4.pth'
    expected = measured(second.cfg, tmp_path / 'probed' / name, classes, k=5)
    for key in KEYS:
        assert lines[-1][key] == pytest.approx(expected[key], rel=1e-4), key
        logged = second.message_hub.get_scalar(key)
        assert logged.current() == lines[-1][key]
    assert not any(KEYS & set(s) for s in scalars(tmp_path / 'without'))
    [log] = (tmp_path / 'probed').glob('*/*.log')
    assert 'Probed with 35 images' in log.read_text()


def test_without_labels(photos, tmp_path):
    """Of any folder, RankMe alone; in TensorBoard too."""
    accumulator = pytest.importorskip(
        'tensorboard.backend.event_processing.event_accumulator'
    )
    cfg = config(photos, tmp_path, iters=2)
    cfg.visualizer.vis_backends = [
        dict(type='LocalVisBackend'),
        dict(type='TensorboardVisBackend'),
    ]
    hook = dict(
        type='ProbeHook',
        data_root=str(photos),
        labels=False,
        by_epoch=False,
        max_images=20,
    )
    train(cfg, hooks=[hook])
    ranks = {key for key in KEYS if 'rank_me' in key}
    lines = [s for s in scalars(tmp_path) if KEYS & set(s)]
    assert [KEYS & set(line) for line in lines] == [ranks, ranks]
    assert all(1 <= line[key] <= 20 for line in lines for key in ranks)
    [events] = tmp_path.glob('*/vis_data/events.out.tfevents*')
    read = accumulator.EventAccumulator(str(events))
    read.Reload()
    for key in ranks:
        found = read.Scalars(key)
        assert [s.step for s in found] == [1, 2]
        assert found[1].value == pytest.approx(lines[1][key], rel=1e-5)


def test_other_methods(photos, classes, tmp_path):
    """MAE, whose backbone masks in pre-training."""
    cfg = config(photos, tmp_path, iters=1)
    cfg.model = mae(cfg.model.backbone.arch)
    hook = dict(type='ProbeHook', data_root=str(classes), by_epoch=False, k=5)
    runner = train(cfg, hooks=[hook])
    [line] = [s for s in scalars(tmp_path) if KEYS & set(s)]
    expected = measured(runner.cfg, tmp_path / 'iter_1.pth', classes, k=5)
    for key in KEYS:
        assert line[key] == pytest.approx(expected[key], rel=1e-4)


@pytest.mark.parametrize(
    'fsdp', [False, pytest.param(True, marks=pytest.mark.slow)]
)
def test_two_processes(photos, classes, tmp_path, fsdp):
    """They share the images, 35 of them, and end as without."""
    for name in ('without', 'probed'):
        cfg = config(photos, tmp_path / name, iters=2)
        cfg.fsdp = fsdp
        if name == 'probed':
            hook = dict(
                type='ProbeHook',
                data_root=str(classes),
                by_epoch=False,
                batch_size=4,
                k=5,
            )
            cfg.custom_hooks = [hook]
        (tmp_path / f'{name}-store').mkdir()
        in_two(trains, tmp_path / f'{name}-store', cfg)
    assert_same(
        weights(tmp_path / 'without/iter_2.pth'),
        weights(tmp_path / 'probed/iter_2.pth'),
    )
    lines = [s for s in scalars(tmp_path / 'probed') if KEYS & set(s)]
    assert [line['step'] for line in lines] == [1, 2]
    expected = measured(cfg, tmp_path / 'probed/iter_2.pth', classes, k=5)
    for key in KEYS:
        assert lines[1][key] == pytest.approx(expected[key], rel=1e-4), key


def refused(error, cfg, message, **options):
    options = dict(dict(type='ProbeHook', by_epoch=False, k=5), **options)
    with pytest.raises(error, match=message):
        train(cfg, hooks=[options])


def test_what_is_refused(photos, classes, tmp_path):
    cfg = config(photos, tmp_path / 'run', iters=1)
    root = str(classes)
    for name, value in (
        ('interval', 0),
        ('interval', True),
        ('k', -1),
        ('max_images', 1),
        ('batch_size', 0.5),
        ('num_workers', -1),
    ):
        message = f'ProbeHook.{name}={value!r}: must be an integer, at least'
        with pytest.raises(ValueError, match=re.escape(message)):
            ProbeHook(root, **{name: value})
    missing = str(tmp_path / 'no')
    message = f"ProbeHook.data_root='{missing}': no such folder.*each class"
    refused(FileNotFoundError, cfg, message, data_root=missing)
    one = tmp_path / 'one'
    shutil.copytree(classes / 'flower', one / 'flower')
    message = r"data_root=.*at least two classes.*found \['flower'\]"
    refused(ValueError, cfg, message, data_root=str(one))
    message = 'data_root=.*must hold images.*in a sub-folder for each class'
    refused(ValueError, cfg, message, data_root=str(one / 'flower'))
    message = 'ProbeHook.k=35: must be less than 35'
    refused(ValueError, cfg, message, data_root=root, k=35)
    message = 'by_epoch=True: must be False, because .* counts iterations'
    refused(ValueError, cfg, message, data_root=root, by_epoch=True)
    assert json.dumps(scalars(tmp_path / 'run')) == '[]'
