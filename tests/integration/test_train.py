"""Real files through the real entrances."""

import os
import re
import shutil
import sys

import numpy as np
import pytest
import torch
from helpers import call, scalars
from mmengine.config import Config
from mmengine.runner import CheckpointLoader
from mmpretrain.registry import MODELS

FOLDER = 'configs/pretrain/saim_vit-demo-p8_1xb64-coslr-500i_folder.py'
CLASSIFY = 'configs/classification/vit-demo-p4_1xb50-coslr-100e_digits.py'
IN1K = 'configs/pretrain/saim_vit-base-p16_32xb64-amp-coslr-300e_in1k.py'
RIGHT = 'train_dataloader.dataset.data_root='


def load(path):
    """A checkpoint, through MMEngine."""
    return CheckpointLoader.load_checkpoint(str(path))


def train(config, work_dir, *options):
    code, output = call(
        *(sys.executable, 'tools/train.py', config),
        *('--work-dir', work_dir, *options),
    )
    assert code == 0, output
    return output


def short(steps, batch=16):
    """Options that shorten the folder demo."""
    return [
        f'train_cfg.max_iters={steps}',
        f'train_dataloader.batch_size={batch}',
        'default_hooks.logger.interval=1',
        f'default_hooks.checkpoint.interval={steps}',
    ]


@pytest.fixture(scope='session')
def run(photos, tmp_path_factory):
    """One training on photographs (test_docs.py does it by mim)."""
    work_dir = tmp_path_factory.mktemp('run')
    output = train(
        FOLDER,
        work_dir,
        '--cfg-options',
        f'{RIGHT}{photos}',
        *short(60),
    )
    return work_dir, output


def test_training_lowers_the_loss_on_photographs(run):
    losses = [x['loss'] for x in scalars(run[0])]
    assert len(losses) == 60
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:10])
    assert (run[0] / 'iter_60.pth').exists()


def test_resume(run, photos, tmp_path):
    shutil.copytree(run[0], tmp_path, dirs_exist_ok=True)
    options = ['--cfg-options', f'{RIGHT}{photos}', *short(64)]
    output = train(FOLDER, tmp_path, '--resume', *options)
    assert 'resumed epoch: 0, iter: 60' in output
    steps = [x['step'] for x in scalars(tmp_path)]
    assert steps == list(range(1, 65))


@pytest.fixture(scope='session')
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data') / 'digits'
    code, output = call(
        sys.executable,
        'tools/dataset_converters/digits.py',
        '--out',
        folder,
    )
    assert code == 0, output
    return folder


def test_pretrain_then_finetune(digits, tmp_path):
    """Every backbone weight goes from pre-training into the classifier."""
    pretrain = 'configs/pretrain/saim_vit-demo-p4_1xb64-coslr-40e_digits.py'
    train(
        pretrain,
        tmp_path / 'pretrain',
        '--cfg-options',
        f'{RIGHT}{digits}/train',
        'train_cfg.max_epochs=1',
    )
    checkpoint = tmp_path / 'pretrain/epoch_1.pth'
    output = train(
        CLASSIFY,
        tmp_path / 'finetune',
        '--cfg-options',
        f'train_dataloader.dataset.data_root={digits}',
        f'val_dataloader.dataset.data_root={digits}',
        'model.backbone.init_cfg.type=Pretrained',
        f'model.backbone.init_cfg.checkpoint={checkpoint}',
        'model.backbone.init_cfg.prefix=backbone.',
        'train_cfg.max_epochs=2',
        'train_cfg.val_interval=2',
        'optim_wrapper.optimizer.lr=0',
    )
    for word in ('unexpected key', 'missing keys', 'size mismatch'):
        assert word not in output
    assert any('accuracy/top1' in x for x in scalars(tmp_path / 'finetune'))
    code, output = call(
        sys.executable,
        'tools/test.py',
        CLASSIFY,
        tmp_path / 'finetune/epoch_2.pth',
        '--work-dir',
        tmp_path / 'test',
        '--cfg-options',
        f'test_dataloader.dataset.data_root={digits}',
    )
    assert code == 0 and 'accuracy/top1' in output, output
    # With a learning rate of 0 the classifier still has them.
    before = load(checkpoint)['state_dict']
    after = load(tmp_path / 'finetune/epoch_2.pth')['state_dict']
    names = [n for n in before if n.startswith('backbone.')]
    assert len(names) == 54
    for name in names:
        assert (before[name] == after[name]).all(), name


@pytest.mark.slow
def test_two_processes_test_as_one(digits, tmp_path):
    """A number of images that two do not divide, each counted once."""
    data = tmp_path / 'data'
    shutil.copytree(digits, data)
    cfg = Config.fromfile(CLASSIFY)
    part = data / cfg.test_dataloader.dataset.data_prefix
    files = sorted(part.glob('*/*'))
    for path in files[: 1 - len(files) % 2]:  # to an odd number
        path.unlink()
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    checkpoint = tmp_path / 'a.pth'
    torch.save(dict(meta={}, state_dict=model.state_dict()), checkpoint)
    found = []
    for command in (
        (sys.executable, 'tools/test.py', CLASSIFY, checkpoint),
        ('tools/dist_test.sh', CLASSIFY, checkpoint, 2),
    ):
        code, output = call(
            *(*command, '--work-dir', tmp_path),
            *('--cfg-options', f'test_dataloader.dataset.data_root={data}'),
        )
        assert code == 0, output
        found.append(re.findall(r'accuracy/top1: (\S+)', output)[-1])
    assert 'GPU number: 2' in output
    assert found[0] == found[1] and 0 < float(found[0]) < 100


def test_two_processes_on_cpus(photos, tmp_path):
    code, output = call(
        'tools/dist_train.sh',
        FOLDER,
        2,
        '--work-dir',
        tmp_path,
        '--auto-scale-lr',
        '--cfg-options',
        f'{RIGHT}{photos}',
        *short(2, batch=8),
        'auto_scale_lr.base_batch_size=32',
    )
    assert code == 0, output
    assert 'Distributed training: True' in output
    assert 'GPU number: 2' in output
    # 2 processes x 8 images for a base of 32: half of the learning rate.
    assert 'Scaling the original LR by 0.5' in output
    checkpoint = load(tmp_path / 'iter_2.pth')
    assert not any('module.' in n for n in checkpoint['state_dict'])


def test_slurm_script_asks_for_what_it_should(tmp_path):
    """With a stand-in for srun; there is no cluster here."""
    srun = tmp_path / 'srun'
    srun.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    srun.chmod(0o755)
    code, output = call(
        'tools/slurm_train.sh',
        'gpu',
        'saim',
        IN1K,
        'work_dirs/x',
        '--resume',
        PATH=f'{tmp_path}:{os.environ["PATH"]}',
    )
    assert code == 0, output
    words = output.split()
    for word in (
        '--partition=gpu',
        '--job-name=saim',
        '--ntasks=32',
        '--ntasks-per-node=8',
        '--gres=gpu:8',
        '--resume',
        IN1K,
        'slurm',
    ):
        assert word in words
    assert call('tools/slurm_train.sh', 'gpu')[0] == 2


def fails(*command):
    """The message a command fails with, before any training."""
    code, output = call(*command)
    assert code != 0
    assert 'Epoch(train)' not in output and 'Iter(train)' not in output
    return output


def refused(config, tmp_path, *options):
    return fails(
        sys.executable,
        'tools/train.py',
        config,
        '--work-dir',
        tmp_path,
        *options,
    )


def test_missing_and_empty_folders(tmp_path):
    nowhere = tmp_path / 'nowhere'
    message = refused(
        FOLDER, tmp_path / 'a', '--cfg-options', f'{RIGHT}{nowhere}'
    )
    assert f"data_root='{nowhere}': no such folder" in message

    nowhere.mkdir()
    (nowhere / 'notes.txt').write_text('no image')
    message = refused(
        FOLDER, tmp_path / 'b', '--cfg-options', f'{RIGHT}{nowhere}'
    )
    assert f"data_root='{nowhere}'" in message and '.jpg' in message


def test_fewer_images_than_a_batch(photos, tmp_path):
    message = refused(
        IN1K,
        tmp_path,
        '--cfg-options',
        f'{RIGHT}{photos}',
        'train_dataloader.batch_size=512',
        'optim_wrapper.type=OptimWrapper',
        'model.backbone.arch=deit-tiny',
    )
    assert 'train_dataloader.batch_size=512: must be at most the 80' in message


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_what_a_machine_without_gpu_cannot_do(photos, tmp_path):
    options = ['--cfg-options', f'{RIGHT}{photos}']
    message = refused(FOLDER, tmp_path / 'a', '--amp', *options)
    assert "optim_wrapper.type='AmpOptimWrapper': float16 needs" in message
    assert '--cfg-options optim_wrapper.type=OptimWrapper' in message


def test_one_unreadable_file_is_named_once(photos, tmp_path):
    """By two workers, over several epochs; training goes on."""
    folder = tmp_path / 'images'
    shutil.copytree(photos, folder)
    for path in sorted(folder.iterdir())[24:]:
        path.unlink()
    broken = folder / 'broken.jpg'
    broken.write_bytes(b'no image at all')
    output = train(
        FOLDER,
        tmp_path / 'run',
        '--cfg-options',
        f'{RIGHT}{folder}',
        *short(10),
        'train_dataloader.num_workers=2',
    )
    assert len(scalars(tmp_path / 'run')) == 10
    assert output.count('unreadable image') == 1
    assert f'unreadable image, skipped: {broken}' in output
    assert '1 of 25 so far' in output
