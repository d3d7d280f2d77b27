"""One method with one seed: pre-trained, read out, trained downstream."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import RUNNERS, DefaultScope
from mmengine.runner import Runner, find_latest_checkpoint, set_random_seed
from mmpretrain.registry import DATASETS, MODELS

from saim_mm.checkpoint.atomic import atomic_write
from saim_mm.evaluation.features import extract
from saim_mm.evaluation.probes import evaluate
from saim_mm.utils.flops import count_flops

#: What is read out of a frozen encoder: keys of
#: :func:`saim_mm.evaluation.probes.evaluate`.
READOUTS = (
    'linear/cls_token',
    'linear/patch_mean',
    'attentive',
    'efficient',
    'knn/cls_token',
    'knn/patch_mean',
    'rank_me/cls_token',
    'rank_me/patch_mean',
)
#: Toolbox -> its metric, and what makes that per cent.
METRICS = dict(
    mmpretrain=('accuracy/top1', 1),
    mmseg=('mIoU', 1),
    mmdet=('coco/bbox_mAP_50', 100),
)


def check_data(config: Path) -> None:
    """Refuse a config whose images are not there.

    Raises:
        ValueError: Naming the folder.
    """
    cfg = Config.fromfile(config)
    root = Path(cfg.train_dataloader.dataset.data_root)
    if not root.is_dir():
        raise ValueError(
            f'{config.name}: train_dataloader.dataset.data_root={str(root)!r} '
            f'must be a folder below {Path.cwd()}; tools/dataset_converters '
            'makes those of the study'
        )


def fingerprint(cfg: Config, stage: str) -> str:
    """A config as a few letters, wherever the weights to start from lie.

    What pre-training would test is left out: it tests nothing.
    """
    values = cfg.to_dict()
    if stage == 'pretrain':
        values = {k: v for k, v in values.items() if k[:5] != 'test_'}
    start = values['model']['backbone'].get('init_cfg') or {}
    start.pop('checkpoint', None)
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class Results:
    """results.json: what a run has found so far.

    Args:
        folder (Path): The run's.
        name (str): The method's.
        seed (int): The seed.
    """

    def __init__(self, folder: Path, name: str, seed: int) -> None:
        self.path = folder / 'results.json'
        # FLOPs and hours are those of pre-training.
        self.values = dict(
            name=name, seed=seed, flops=0, hours=0, configs={}, accuracy={}
        )
        if self.path.exists():
            self.values = json.loads(self.path.read_text())

    def save(self, **values) -> None:
        self.values.update(values)
        atomic_write(self.path, json.dumps(self.values, indent=1).encode())

    def check_precision(self, stage: str, optim_wrapper: str) -> None:
        """Refuse to go on in another precision; note which this is.

        A CPU without instructions for bfloat16 trains in float32.

        Raises:
            ValueError: If the stage was begun with another wrapper.
        """
        wrappers = self.values.setdefault('optim_wrappers', {})
        noted = wrappers.setdefault(stage, optim_wrapper)
        if noted != optim_wrapper:
            raise ValueError(
                f'{self.path}: {stage!r} was begun with {noted}, and this '
                f'machine trains with {optim_wrapper}; go on where it was '
                f'begun, or delete {self.path.parent}'
            )
        self.save()

    def check_same(self, stage: str, cfg: Config) -> None:
        """Refuse results of another config; note which config this is.

        Raises:
            ValueError: If the config has changed since.
        """
        found = fingerprint(cfg, stage)
        noted = self.values['configs'].setdefault(stage, found)
        if noted != found:
            raise ValueError(
                f'{self.path}: the results there are of another config of '
                f'{stage!r} ({noted}) than this ({found}); take '
                f'another --work-dir or delete {self.path.parent}'
            )
        self.save()


def run_process(folder: Path, *arguments) -> None:
    """A process of its own, which writes into the run's log.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    log = os.open(
        folder / 'log.txt', os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644
    )
    os.dup2(log, 1)
    os.dup2(log, 2)
    torch.set_num_threads(1)
    run(folder, *arguments)


def run(
    folder: Path,
    name: str,
    config: Path | None,
    seed: int,
    frozen: Path,
    downstream: dict[str, Path],
    options: dict,
) -> None:
    """All stages that are not there yet.

    Args:
        folder (Path): Of this method and seed.
        name (str): The method's.
        config (Path | None): Of pre-training; None: from scratch.
        seed (int): The seed.
        frozen (Path): Config whose images and labels the readouts see.
        downstream (dict[str, Path]): Column -> config.
        options (dict): Changes to the config of pre-training.

    Raises:
        ValueError: If the results that are there are of other configs, or
            lack their checkpoint.
    """
    results = Results(folder, name, seed)
    accuracy = results.values['accuracy']
    start = Start()
    if config is not None:
        cfg = Config.fromfile(config)
        cfg.merge_from_dict({**options, 'randomness.seed': seed})
        results.check_same('pretrain', cfg)
        if not results.values['hours']:
            pretrain(cfg, folder / 'pretrain', results)
        start = Start(
            newest(folder / 'pretrain'), cfg.model.backbone.patch_size
        )
    results.check_same('frozen', prepare(frozen, seed, start))
    if not set(READOUTS) <= set(accuracy):
        accuracy |= read_out(prepare(frozen, seed, start), seed)
        results.save()
    for column, path in downstream.items():
        cfg = prepare(path, seed, start)
        if cfg is None:
            continue
        results.check_same(column, cfg)
        if column not in accuracy:
            metric, scale = METRICS[cfg.default_scope]
            value = train_and_test(cfg, folder / column, metric, results)
            accuracy[column] = scale * value
            results.save()
            for checkpoint in (folder / column).glob('*.pth'):
                checkpoint.unlink()


@dataclass
class Start:
    """What an encoder starts from: a checkpoint with patches of a size."""

    checkpoint: Path | None = None
    patch_size: int | None = None


def newest(folder: Path) -> Path:
    """The checkpoint that pre-training has left; the folder may have moved.

    Raises:
        ValueError: If there is none.
    """
    path = find_latest_checkpoint(folder)
    path = path and folder / Path(path).name
    if not path or not path.exists():
        raise ValueError(
            f'{folder}: has no checkpoint, though results.json says that '
            f'pre-training is over; delete {folder.parent}'
        )
    return path


def pretrain(cfg: Config, folder: Path, results: Results) -> None:
    """Pre-train, or go on with it; note what it costs."""
    per_image = flops_of_step(cfg)
    runner = train(cfg, folder, results)
    # Also of the time before an interruption. The median: other programs
    # take time as well.
    seconds = runner.message_hub.get_scalar('train/time').data[0]
    steps = runner.max_iters
    results.save(
        flops=per_image * steps * cfg.train_dataloader.batch_size,
        hours=float(np.median(seconds)) * steps / 3600,
    )


def prepare(path: Path, seed: int, start: Start) -> Config | None:
    """A downstream config with what it starts from.

    Returns:
        Config | None: None where patches of that size would be too many:
        pixels as tokens, in anything but classification.
    """
    cfg = Config.fromfile(path)
    options = {'randomness.seed': seed}
    if start.checkpoint is None:
        options['model.backbone.init_cfg'] = None
        if cfg.optim_wrapper.get('paramwise_cfg', {}).get('layer_decay_rate'):
            # From scratch lower blocks would hardly learn at decayed rates.
            options['optim_wrapper.paramwise_cfg.layer_decay_rate'] = 1.0
    else:
        options['model.backbone.init_cfg.checkpoint'] = str(start.checkpoint)
        if start.patch_size != cfg.model.backbone.patch_size:
            if cfg.default_scope != 'mmpretrain':
                return None
            options['model.backbone.patch_size'] = start.patch_size
    cfg.merge_from_dict(options)
    return cfg


def train(cfg: Config, folder: Path, results: Results) -> Runner:
    """Train, or go on with it, in the precision that it was begun in."""
    folder.mkdir(parents=True, exist_ok=True)
    cfg.work_dir = str(folder)
    # MMEngine finds visualizers and more by this name.
    cfg.experiment_name = '-'.join(folder.parts[-3:])
    cfg.visualizer.name = cfg.experiment_name
    cfg.resume = True
    runner = RUNNERS.get(cfg.runner_type).from_cfg(cfg)
    # from_cfg() has fitted it to this machine.
    results.check_precision(folder.name, cfg.optim_wrapper.type)
    runner.train()
    return runner


def train_and_test(
    cfg: Config, folder: Path, metric: str, results: Results
) -> float:
    """Train, or go on with it: the metric at the end."""
    # (What the log has may be of an epoch before, if it was interrupted.)
    return float(train(cfg, folder, results).val()[metric])


def read_out(cfg: Config, seed: int) -> dict[str, float]:
    """The readouts of the encoder that a classification config starts from.

    Of all its training images, seen as in testing: no augmentation.
    """
    set_random_seed(seed)  # of random weights
    cfg = Config(cfg.to_dict())
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
        model = MODELS.build(cfg.model)
        model.init_weights()
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
        model.to(device)
        train, test = cfg.train_dataloader.dataset, cfg.test_dataloader.dataset
        train.pipeline = test.pipeline
        known, queries = (
            extract(model, DATASETS.build(dataset), batch_size=500)
            for dataset in (train, test)
        )
    heads = model.backbone.arch_settings['num_heads']
    found = evaluate(known, queries, heads, seed=seed, device=device)
    return {name: found[name] for name in READOUTS}


def flops_of_step(cfg: Config) -> float:
    """FLOPs of a step of pre-training for one image, backward included."""
    cfg = Config(cfg.to_dict())
    images = 2  # BatchNorm wants more than one
    cfg.train_dataloader.update(
        batch_size=images, num_workers=0, persistent_workers=False
    )
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        batch = next(iter(Runner.build_dataloader(cfg.train_dataloader)))
        cfg.model.data_preprocessor = cfg.data_preprocessor
        model = MODELS.build(cfg.model).train()
    data = model.data_preprocessor(batch, True)
    return count_flops(lambda: model.loss(**data)['loss'])[1] / images
