"""Sharded training is ordinary training, and goes on with other processes."""

import shutil
import signal
import time

import pytest
import torch
from helpers import (
    TINY,
    in_two,
    kill_all,
    sharded,
    start,
    start_two,
    train,
    trains,
    weights,
    write,
)
from safetensors.torch import load, save

from saim_mm import SAIMRunner, SAIMViT
from saim_mm.checkpoint.loader import load_from_local, load_state_dict
from saim_mm.checkpoint.sharded import flatten_tensors, load_folder
from saim_mm.engine.resume import find_checkpoints


def assert_close(first, second):
    first, second = flatten_tensors(first), flatten_tensors(second)
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(
            second[name], value, rtol=1e-4, atol=1e-6, msg=name
        )


@pytest.mark.parametrize(
    'average', [False, pytest.param(True, marks=pytest.mark.slow)]
)
def test_two_share_what_one_has(forty_images, tmp_path, average):  # noqa: F811
    """The same weights; one goes on from what two saved; faults of it."""
    cfg = sharded(forty_images, tmp_path / 'two', iters=6)
    if average:  # shared out as the weights are
        cfg.model.order = 'semantic'
        cfg.model.teacher = dict(type='MovingAverageTeacher', momentum=0.5)
        cfg.model.target_generator = dict(type='FeatureTarget')
        cfg.model.head.pop('loss')
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False)
    in_two(trains, tmp_path, cfg)
    cfg.train_dataloader.batch_size = 8
    cfg.work_dir = str(tmp_path / 'one')
    begin = train(cfg).model.state_dict()
    one = load_from_local(tmp_path / 'one/iter_6.pth')
    folder = tmp_path / 'two/iter_6.pth'
    assert len(list(folder.glob('shard*.safetensors'))) == 2
    assert_close(one, load_from_local(folder))
    first = weights(tmp_path / 'one/iter_1.pth')
    name = 'backbone.layers.0.attn.qkv.weight'
    assert (first[name] - begin[name]).abs().max() > 1e-3  # it learns
    if average:
        mean = first[f'teacher.encoder.{name.removeprefix("backbone.")}']
        assert (mean - first[name]).abs().max() > 1e-4

    cfg.work_dir = str(tmp_path / 'again')
    shutil.copytree(tmp_path / 'two/iter_3.pth', tmp_path / 'again/iter_3.pth')
    train(cfg, resume=True)
    assert not (tmp_path / 'again/iter_2.pth').exists()
    assert_close(one, load_from_local(tmp_path / 'again/iter_6.pth'))

    # The encoder for fine-tuning, and all weights for the converters.
    vit = SAIMViT(
        arch=TINY,
        img_size=32,
        patch_size=8,
        init_cfg=dict(
            type='Pretrained', checkpoint=str(folder), prefix='backbone.'
        ),
    )
    vit.init_weights()
    qkv = load_state_dict(folder)[name]
    assert torch.equal(vit.layers[0].attn.qkv.weight, qkv)

    check_faults(folder)


def check_faults(folder):
    """Each is a ValueError, so that --resume takes an older checkpoint."""
    parts = sorted(folder.glob('shard*'))
    contents = [part.read_bytes() for part in parts]
    for part, content in zip(parts, contents):  # no sharding metadata
        part.write_bytes(save(load(content)))
    with pytest.raises(ValueError, match='iter_6.pth.: its files do not say'):
        load_from_local(folder)
    parts[1].write_bytes(save(load(contents[1]), dict(DCP_SHARDING_INFO='{}')))
    with pytest.raises(ValueError, match='iter_6.pth.: its safetensors files'):
        load_from_local(folder)
    for part, content in zip(parts, contents):
        part.write_bytes(content)
    load_from_local(folder)
    for place in (len(contents[1]) - 1, len(contents[1]) // 2):
        flipped = bytearray(contents[1])
        flipped[place] ^= 4
        parts[1].write_bytes(flipped)
        with pytest.raises(ValueError, match='iter_6.pth.: damaged: its fil'):
            load_from_local(folder)
    parts[1].write_bytes(contents[1])

    part = sorted(folder.glob('shard*'))[1]
    content = part.read_bytes()
    part.write_bytes(content[:-10])
    with pytest.raises(ValueError, match='iter_6.pth.: truncated'):
        load_from_local(folder)
    part.unlink()
    with pytest.raises(ValueError, match='iter_6.pth.: parts of .* missing'):
        load_from_local(folder)
    part.write_bytes(content)
    for rest in (dict(state_dict={}), dict(shapes={}), [1]):
        torch.save(rest, folder / 'rest.pth')
        with pytest.raises(ValueError, match='iter_6.pth.: its rest.pth has'):
            load_from_local(folder)
    (folder / 'rest.pth').write_bytes(b'')
    with pytest.raises(ValueError, match='rest.pth.: '):
        load_from_local(folder)
    (folder / 'rest.pth').unlink()
    with pytest.raises(ValueError, match='iter_6.pth.: a folder without rest'):
        load_from_local(folder)
    with pytest.raises(ValueError, match='iter_6.pth.: has no rest.pth'):
        load_folder(folder)


CLASSIFIER = dict(
    _delete_=True,
    type='ImageClassifier',
    backbone=dict(type='SAIMViT', arch='base', img_size=32, patch_size=8),
    head=dict(type='LinearClsHead', num_classes=2, in_channels=768),
)


SELF = dict(_delete_=True, type='SemanticOrder', similarity='self')


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(fsdp='yes'), "fsdp='yes': must be True or False"),
        (dict(compile=True), 'compile=True: must be False with fsdp=True'),
        (
            {'optim_wrapper.type': 'AmpOptimWrapper'},
            "type='AmpOptimWrapper': must be BFloat16OptimWrapper",
        ),
        (
            dict(custom_hooks=[dict(type='ReconstructionHook')]),
            "custom_hooks='ReconstructionHook': must be left out",
        ),
        (
            dict(model=dict(order=SELF)),
            "model.order.similarity='self': must be 'cls' or 'gap'",
        ),
        (dict(model=CLASSIFIER), 'it is for pre-training'),
    ],
)
def test_what_does_not_go_together(forty_images, tmp_path, options, message):  # noqa: F811
    cfg = sharded(forty_images, tmp_path, iters=1)
    cfg.merge_from_dict(options)
    with pytest.raises(ValueError, match=message):
        SAIMRunner.from_cfg(cfg)


@pytest.mark.slow
@pytest.mark.parametrize(
    'options',
    [
        {'model.neck.share_weights': True},
        {
            'model.backbone.with_cp': True,
            'model.neck.with_cp': True,
            'optim_wrapper.clip_grad': dict(max_norm=0.5),
            'optim_wrapper.accumulative_counts': 2,
        },
        {'optim_wrapper.type': 'BFloat16OptimWrapper'},
    ],
)
def test_two_go_on_from_one(forty_images, tmp_path, options):  # noqa: F811
    """Of an ordinary checkpoint; killed, and stopped, in between."""
    cfg = sharded(forty_images, tmp_path, iters=40)
    cfg.optim_wrapper.optimizer.lr = 1e-2
    # What was accumulated between two steps is not saved.
    cfg.default_hooks.checkpoint.interval = 2
    cfg.merge_from_dict(options)
    path = write(cfg, tmp_path / 'one.py', 8)
    assert start(path, tmp_path / 'one').wait(120) == 0
    run = tmp_path / 'run'
    run.mkdir()
    shutil.copy(tmp_path / 'one/iter_4.pth', run)
    path = write(cfg, tmp_path / 'two.py', 4)
    for number in (signal.SIGKILL, signal.SIGTERM):
        known = find_checkpoints(run)[:1]
        process = start_two(path, run, '--resume')
        while process.poll() is None and find_checkpoints(run)[:1] == known:
            time.sleep(0.01)
        if number == signal.SIGKILL:
            kill_all(str(run))
        else:
            process.send_signal(number)
        process.wait(120)
    assert (run / 'interrupted.pth/rest.pth').is_file()
    assert start_two(path, run, '--resume').wait(120) == 0
    one, two = (
        load_from_local(tmp_path / name / 'iter_40.pth')
        for name in ('one', 'run')
    )
    if 'optim_wrapper.type' in options:  # bfloat16 rounds to 8 bits
        for name, value in one['state_dict'].items():
            assert (value - two['state_dict'][name]).abs().max() < 1e-2
    else:
        assert_close(one, two)
