"""What tests share: commands as users give them, and tiny trainings.

Importing PyTorch and the toolboxes takes longer than most tests. So a process
that has done it (multiprocessing's fork server) is forked for each script.
"""

import functools
import importlib
import json
import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import mmengine.config.config
import mmengine.runner.runner
import numpy as np
import torch
import yapf.yapflib.yapf_api
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmpretrain.registry import MODELS
from PIL import Image
from sklearn.datasets import load_sample_images

from saim_mm import SAIMRunner
from saim_mm.checkpoint.loader import load_from_local

ROOT = Path(__file__).parents[1]


# What MMEngine does for each training, and takes longer than a tiny one: it
# formats the config, asks gcc for its version, and looks for each base that is
# a toolbox's in lists that hold no bases.
yapf.yapflib.yapf_api.FormatCode = lambda text, **_: (text, True)
mmengine.runner.runner.collect_env = functools.cache(
    mmengine.runner.runner.collect_env
)
listed = mmengine.config.config._get_external_cfg_path


def external_path(package, name):
    if name.startswith('_base_/'):
        raise ValueError(f'{name}: no list has it')
    return listed(package, name)


mmengine.config.config._get_external_cfg_path = external_path

SERVER = multiprocessing.get_context('forkserver')
SERVER.set_forkserver_preload(['saim_mm'])
#: For processes that call a function of a test.
FORK = multiprocessing.get_context('fork')


def be_script(words, folder, environment, output, error=None):
    """In a forked process: what `python SCRIPT ARGUMENT ...` would be."""
    for standard, path in ((1, output), (2, error or output)):
        with open(path, 'a') as file:
            os.dup2(file.fileno(), standard)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    import torch

    torch.set_num_threads(int(environment['OMP_NUM_THREADS']))
    sys.argv = words
    path = environment.get('PYTHONPATH')
    sys.path[:0] = [
        str(Path(folder, words[0]).parent),
        *(path.split(os.pathsep) if path else ()),
    ]
    if words[0] == '-m':
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name='__main__', alter_sys=True)
    else:
        runpy.run_path(words[0], run_name='__main__')


def serve(connection):
    """A process that has imported mmdet and mmseg, forked for each script."""
    for name in ('saim_mm.detection', 'saim_mm.segmentation'):
        importlib.import_module(name)
    for name in ('mmdet.apis', 'mmdet.evaluation', 'mmseg.apis'):
        importlib.import_module(name)
    for arguments in iter(connection.recv, None):
        process = FORK.Process(target=be_script, args=arguments)
        process.start()
        process.join()
        connection.send(process.exitcode)


def surroundings(**environment):
    """The variables of a process that is started."""
    return {
        **os.environ,
        'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}',
        'OMP_NUM_THREADS': '1',
        **environment,
    }


def fork(*words, output, error=None, folder=ROOT, **environment):
    """Start a script in a process that has imported what it needs."""
    process = SERVER.Process(
        target=be_script,
        args=(
            [str(word) for word in words],
            folder,
            surroundings(**environment),
            str(output),
            error and str(error),
        ),
    )
    process.start()
    return process


#: Seconds that a command may take: one that hangs fails.
LIMIT = 1200


def call(*command, folder=ROOT, **environment):
    """Run a command in a folder; return its exit code and output.

    Args:
        *command: Its words; after sys.executable a script, or -m saim_mm.cli.
        folder (Path): Defaults to the project's.
        **environment (str): Variables.
    """
    words = [str(word) for word in command]
    with tempfile.NamedTemporaryFile('r') as output:
        forked = words[1].endswith('.py') or words[1:3] == [
            '-m',
            'saim_mm.cli',
        ]
        if words[0] == sys.executable and forked:
            process = fork(
                *words[1:], output=output.name, folder=folder, **environment
            )
            process.join(LIMIT)
            if process.is_alive():
                process.kill()
                process.join()
            code = process.exitcode
        else:
            with open(output.name, 'w') as file:
                code = subprocess.run(
                    words,
                    cwd=folder,
                    env=surroundings(**environment),
                    stdout=file,
                    stderr=file,
                    timeout=LIMIT,
                ).returncode
        return code, output.read()


ARCH = dict(embed_dims=64, num_layers=4, num_heads=4, feedforward_channels=128)


def saim(**changes):
    """A small SAIM; ``head__loss=...`` changes a field of a part."""
    config = dict(
        type='SAIM',
        backbone=dict(type='SAIMViT', arch=ARCH, img_size=32, patch_size=8),
        neck=dict(type='SAIMDecoder'),
        head=dict(type='SAIMHead'),
        target_generator=dict(type='SmoothedPatchTarget'),
    )
    for key, value in changes.items():
        part, _, field = key.partition('__')
        if field:
            config[part][field] = value
        else:
            config[part] = value
    return MODELS.build(config)


TINY = dict(embed_dims=24, num_layers=4, num_heads=3, feedforward_channels=48)


def bright_and_dark(folder, number, height, width):
    """Write two classes of small images, which their pixels tell apart."""
    random = np.random.default_rng(0)
    for label, name in enumerate(('bright', 'dark')):
        (folder / name).mkdir()
        for count in range(number):
            pixels = random.integers(0, 60, (height, width, 3))
            pixels += 190 * (1 - label)
            image = Image.fromarray(pixels.astype(np.uint8))
            image.save(folder / name / f'{count:02}.png')
    return folder


def tiles(folder, size=80):
    """Tiles of scikit-learn's two photographs, 640 x 427 pixels each."""
    folder.mkdir(parents=True)
    for number, photo in enumerate(load_sample_images().images):
        for y in range(0, photo.shape[0] - size + 1, size):
            for x in range(0, photo.shape[1] - size + 1, size):
                tile = Image.fromarray(photo[y : y + size, x : x + size])
                tile.save(folder / f'{number}_{y}_{x}.jpg', quality=95)
    return folder


def write_config(cfg, work_dir):
    """A user's config file; returns its path."""
    cfg.work_dir = str(work_dir)
    work_dir.mkdir(parents=True, exist_ok=True)
    cfg.dump(work_dir / 'config.py')
    return work_dir / 'config.py'


def in_process(values):
    """Options by which loaders start no processes."""
    for name in ('train', 'val', 'test'):
        values[f'{name}_dataloader.num_workers'] = 0
        values[f'{name}_dataloader.persistent_workers'] = False
    return values


def scalars(work_dir):
    """Everything logged, of all the runs in a work directory."""
    lines = [
        line
        for path in sorted(Path(work_dir).glob('*/vis_data/scalars.json'))
        for line in path.read_text().splitlines()
    ]
    return [json.loads(line) for line in lines]


FOLDER = 'configs/pretrain/saim_vit-demo-p8_1xb64-coslr-500i_folder.py'


IMAGENET = 'configs/pretrain/saim_vit-base-p16_32xb64-amp-coslr-300e_in1k.py'


def config(images, work_dir, epochs=None, iters=None, workers=0):
    """Of a tiny pre-training, by epochs of 5 iterations or by iterations."""
    cfg = Config.fromfile(FOLDER if epochs is None else IMAGENET)
    cfg.model.backbone.update(arch=TINY, img_size=32, patch_size=8)
    loader = cfg.train_dataloader
    loader.dataset.data_root = str(images)
    loader.dataset.pipeline[0].scale = 32
    loader.update(
        batch_size=4,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=False,
    )
    cfg.optim_wrapper.type = 'OptimWrapper'
    cfg.optim_wrapper.optimizer.lr = 1e-3
    cfg.default_hooks.checkpoint.interval = 1
    cfg.default_hooks.logger.interval = 1
    if epochs is None:
        cfg.train_cfg.max_iters = iters
    else:
        cfg.train_cfg.max_epochs = epochs
        cfg.param_scheduler = [
            dict(
                type='CosineAnnealingLR',
                T_max=epochs,
                by_epoch=True,
                begin=0,
                end=epochs,
                convert_to_iter_based=True,
            )
        ]
    cfg.work_dir = str(work_dir)
    cfg.env_cfg.mp_cfg.opencv_num_threads = 1
    return cfg


COUNT = iter(range(1000))


def train(cfg, resume=False, hooks=()):
    """Train in this process; returns the runner."""
    cfg = cfg.copy()
    cfg.resume = resume
    cfg.experiment_name = f'faults_{next(COUNT)}'
    cfg.visualizer.name = cfg.experiment_name
    cfg.custom_hooks = list(hooks)
    runner = SAIMRunner.from_cfg(cfg)
    runner.train()
    return runner


def weights(path):
    return load_from_local(path)['state_dict']


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


@HOOKS.register_module()
class StopAfter(Hook):
    """Raises after an iteration, when all other hooks have run."""

    priority = 'LOWEST'

    def __init__(self, iteration, number=None):
        self.iteration, self.number = iteration, number

    def after_train_iter(self, runner, *args, **kwargs):
        if runner.iter + 1 == self.iteration:
            if self.number is None:
                raise KeyboardInterrupt
            os.kill(os.getpid(), self.number)


def start(path, work_dir, *options):
    """A real training, in a process of its own."""
    with open(Path(work_dir).with_suffix('.log'), 'a') as log:
        return subprocess.Popen(
            [
                *(sys.executable, ROOT / 'tools/train.py', path),
                *('--work-dir', work_dir, *options),
            ],
            env=dict(os.environ, OMP_NUM_THREADS='1'),
            stdout=log,
            stderr=log,
        )


def free_port():
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        return server.getsockname()[1]


def start_two(path, work_dir, *options):
    """Two processes, by torchrun."""
    with open(f'{work_dir}.log', 'a') as log:
        return subprocess.Popen(
            [
                *(ROOT / 'tools/dist_train.sh', path, '2'),
                *('--work-dir', work_dir, *options),
            ],
            env=dict(
                os.environ,
                OMP_NUM_THREADS='1',
                PATH=f'{Path(sys.executable).parent}:{os.environ["PATH"]}',
            ),
            stdout=log,
            stderr=log,
        )


def in_two(function, folder, *args):
    """Call a function, with the folder, in two processes of one group."""
    torch.multiprocessing.start_processes(
        _begin, (function, folder, *args), nprocs=2, start_method='fork'
    )


def trains(rank, folder, cfg):
    """For :func:`in_two`: train, with the config's own hooks."""
    cfg.launcher = 'pytorch'
    train(cfg, hooks=cfg.get('custom_hooks', ()))


def _begin(rank, function, folder, *args):
    torch.set_num_threads(1)  # OpenMP's others are not in a forked process
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2')
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2
    )
    function(rank, folder, *args)
    torch.distributed.destroy_process_group()


def kill_all(text):
    """kill -9 every process whose command line holds a text."""
    for folder in Path('/proc').glob('[0-9]*'):
        try:
            if text.encode() in (folder / 'cmdline').read_bytes():
                os.kill(int(folder.name), signal.SIGKILL)
        except OSError:
            pass  # gone by now


def write(cfg, path, batch_size, workers=1):
    cfg = cfg.copy()
    cfg.train_dataloader.batch_size = batch_size
    cfg.dump(path)
    return path


def sharded(images, tmp_path, iters):  # noqa: F811
    """AdamW whose steps depend on the size of a gradient."""
    cfg = config(images, tmp_path, iters=iters, workers=1)
    cfg.fsdp = True
    cfg.optim_wrapper.optimizer.update(lr=0.5, eps=1.0)
    cfg.param_scheduler = []
    cfg.default_hooks.checkpoint.max_keep_ckpts = -1
    return cfg


def mae(arch, img_size=32, patch_size=8):
    """The config of a tiny MAE of mmpretrain's, with a decoder of a block."""
    return dict(
        type='MAE',
        backbone=dict(
            type='MAEViT', arch=arch, img_size=img_size, patch_size=patch_size
        ),
        neck=dict(
            type='MAEPretrainDecoder',
            num_patches=(img_size // patch_size) ** 2,
            patch_size=patch_size,
            embed_dim=arch['embed_dims'],
            decoder_embed_dim=arch['embed_dims'],
            decoder_depth=1,
            decoder_num_heads=arch['num_heads'],
        ),
        head=dict(
            type='MAEPretrainHead',
            norm_pix=True,
            patch_size=patch_size,
            loss=dict(type='PixelReconstructionLoss', criterion='L2'),
        ),
    )
