"""Compare ways to pre-train: same images, same ViT, same number of them seen.

    python tools/study.py [CONFIG ...] [--cpu] [--budget 1] [--seeds 0 1 2]
        [--jobs 1] [--data data/cifar10] [--transfer]
        [--work-dir work_dirs/study] [--table]

Each CONFIG (default: SAIM on CIFAR-10, its baselines, ablations, light
decoder) is pre-trained, then fine-tuned, probed by a linear layer and by
nearest
neighbours; beside them the ViT from scratch. After each run a table (mean and
deviation over seeds) and a plot (accuracy against FLOPs and hours of
pre-training) are written anew into the work folder.

A run that is there is not repeated, and one that was interrupted goes on from
its last checkpoint; its log.txt is beside its results.json. Other settings
and other configs of the same name need another work folder. --cpu: a smaller
ViT, fewer images and a tenth of the labels, for two cores overnight. --data:
train/CLASS/ and test/CLASS/ with images of 32 x 32 pixels, as
tools/dataset_converters/cifar10.py writes them. --transfer: also UperNet on
CamVid and Faster R-CNN on BCCD (in data/), with mmsegmentation and
mmdetection. --budget multiplies the images that pre-training sees. --jobs:
runs at a time. --table: only write table and plot. The ablation `pixels` costs
as much as all others together and is run only if its config is given.
"""

import argparse
import importlib.util
import json
import multiprocessing
import os
import re
import signal
import sys
from collections import Counter, defaultdict
from multiprocessing.connection import wait
from pathlib import Path

import knn
import numpy as np
import torch
from benchmarks.cost import count_flops, flops_per_image
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.registry import RUNNERS, init_default_scope
from mmengine.runner import Runner, set_random_seed
from mmpretrain.registry import DATASETS, MODELS

from saim_mm import SAIMViT
from saim_mm.checkpoint.atomic import atomic_write
from saim_mm.models.saim import is_pretraining

ROOT = Path(__file__).resolve().parents[1]
PRETRAIN = ROOT / 'configs/pretrain'
SAIM = PRETRAIN / 'saim_vit-tiny-p4_1xb512-amp-coslr-400e_cifar10.py'
CLASSIFICATION = ROOT / 'configs/classification'
DOWNSTREAM = dict(
    finetune=CLASSIFICATION / 'vit-tiny-p4_1xb256-amp-coslr-100e_cifar10.py',
    linear=CLASSIFICATION / 'vit-tiny-p4_1xb256-linear-coslr-50e_cifar10.py',
)
#: Package and config of the transfer, its metric, what makes that per cent.
TRANSFER = dict(
    camvid=(
        'mmseg',
        ROOT
        / 'configs/segmentation'
        / 'saim-vit-192x4-p8_upernet_1xb8-600i_camvid-240x320.py',
        'mIoU',
        1,
    ),
    bccd=(
        'mmdet',
        ROOT
        / 'configs/detection'
        / 'faster-rcnn_saim-vit-192x4-p8_vitdet_1xb4-coslr-12e_bccd.py',
        'coco/bbox_mAP_50',
        100,
    ),
)
SCRATCH = 'scratch'
#: Key of the results -> heading of the table.
MEASURES = dict(
    finetune='fine-tuned', linear='linear', knn='nearest neighbours'
)
TRANSFERRED = dict(camvid='CamVid, mIoU', bccd='BCCD, AP 50')

#: Of each stage: how often each image is seen (pretrain: with --budget 1).
EPOCHS = dict(pretrain=100, finetune=50, linear=25)

# What two cores can do in a night.
CPU_EPOCHS = dict(pretrain=3, finetune=10, linear=10)
CPU_LABELS = 10  # every tenth
CPU_ARCH = dict(
    embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=384
)


def epochs_of(args):
    """Epochs of each stage."""
    return CPU_EPOCHS if args.cpu else EPOCHS


def name_of(config):
    """A method's short name, from that of its config (None: no method)."""
    if config is None:
        return SCRATCH
    stem = Path(config).stem
    found = re.match(r'([^_]+)_[^_]+_(?:(.+)_)?\d+xb', stem)
    if not found:
        return stem
    algorithm, variant = found.groups()
    if variant is None:
        return algorithm
    return variant if algorithm == 'saim' else f'{algorithm}-{variant}'


def shrink(cfg):
    """Make a pre-training config's model the ViT of --cpu."""
    full = MODELS.build(cfg.model).backbone
    narrower = full.embed_dims // CPU_ARCH['embed_dims']
    shallower = full.num_layers / CPU_ARCH['num_layers']
    model = cfg.model
    model.backbone.arch = dict(CPU_ARCH)
    neck = model.get('neck') or {}
    if depth := neck.get('depth'):
        neck.depth = max(1, round(depth / shallower))
    if depth := neck.get('decoder_depth'):
        neck.decoder_depth = max(1, round(depth / shallower))
    head = model.get('head') or {}
    for part in (neck, head, head.get('predictor')):
        for key, value in part.items() if isinstance(part, dict) else ():
            if value == full.embed_dims and key in (
                'in_channels',
                'embed_dim',
            ):
                part[key] = CPU_ARCH['embed_dims']
            elif key in ('hid_channels', 'decoder_embed_dim'):
                part[key] //= narrower


def set_schedule(cfg, iterations, warmup):
    """Train for some iterations: a linear warm-up, then a cosine to zero."""
    begin = round(warmup * iterations)
    cfg.param_scheduler = [
        dict(
            type='LinearLR',
            start_factor=1e-4,
            by_epoch=False,
            begin=0,
            end=begin,
        )
    ] * (begin > 0) + [
        dict(
            type='CosineAnnealingLR',
            T_max=iterations - begin,
            by_epoch=False,
            begin=begin,
            end=iterations,
        )
    ]
    cfg.train_cfg = dict(
        type='IterBasedTrainLoop', max_iters=iterations, val_interval=10**9
    )
    cfg.log_processor = dict(by_epoch=False)
    cfg.default_hooks.checkpoint.update(
        by_epoch=False,
        interval=max(1, min(1000, iterations // 4)),
        max_keep_ckpts=1,
    )
    cfg.default_hooks.logger.interval = 50
    kind = cfg.train_dataloader.sampler.type
    cfg.train_dataloader.sampler = (
        dict(type='ReproducibleSampler', infinite=True)
        if kind == 'ReproducibleSampler'
        else dict(type='InfiniteSampler', shuffle=True)
    )


def prepare(args, config, seed, epochs, warmup=0.05):
    """A config of the study: (config, iterations)."""
    cfg = Config.fromfile(config)
    dataset = cfg.train_dataloader.dataset
    dataset.data_root = str(args.data)
    if 'data_prefix' not in dataset:
        dataset.data_prefix = 'train'
    images = len(DATASETS.build(dataset))
    classes = sum(path.is_dir() for path in (args.data / 'train').iterdir())
    if 'num_classes' in (cfg.model.get('head') or {}):
        cfg.model.head.num_classes = classes
        cfg.data_preprocessor.num_classes = classes
    for loader in ('val', 'test'):
        if f'{loader}_dataloader' in cfg:
            cfg[f'{loader}_dataloader'].dataset.data_root = str(args.data)
    if args.cpu:
        cfg.optim_wrapper.type = 'OptimWrapper'  # too small for bfloat16
        cfg.train_dataloader.batch_size = 128
        if config in DOWNSTREAM.values():
            dataset.indices = list(range(0, images, CPU_LABELS))
            images = len(dataset.indices)
        for loader in ('train', 'val', 'test'):
            if f'{loader}_dataloader' in cfg:
                cfg[f'{loader}_dataloader'].num_workers = 1
    batch = cfg.train_dataloader.batch_size
    iterations = max(1, round(epochs * images / batch))
    set_schedule(cfg, iterations, warmup)
    cfg.randomness = dict(seed=seed)
    return cfg, iterations


def train(cfg, folder):
    """Train, or go on with it: the runner."""
    folder.mkdir(parents=True, exist_ok=True)
    cfg.work_dir = str(folder)
    # MMEngine finds visualisers and more by this name.
    cfg.experiment_name = '-'.join(folder.parts[-3:])
    cfg.visualizer.name = cfg.experiment_name
    cfg.resume = True
    runner = RUNNERS.get(cfg.runner_type).from_cfg(cfg)
    runner.train()
    return runner


def check_same(cfg, path):
    """Refuse results of another config; keep this one's beside them."""
    text = cfg.pretty_text.replace(f'{path.parent}/', '')  # may be moved
    if path.exists() and path.read_text() != text:
        raise ValueError(
            f'{path}: the results there are of another config than this; '
            f'take another --work-dir or delete {path.parent}'
        )
    atomic_write(path, text.encode())


def evaluate(cfg, folder, metric):
    """Train, or go on with it: the metric at the end."""
    runner = train(cfg, folder)
    logged = runner.message_hub.log_scalars.get(f'val/{metric}')
    # There is none if it was interrupted just before.
    value = logged.current() if logged else runner.val()[metric]
    for checkpoint in folder.glob('*.pth'):
        checkpoint.unlink()
    return float(value)


def run(args, config, seed):
    """All stages of one method with one seed."""
    init_default_scope('mmpretrain')
    name = name_of(config)
    folder = args.work_dir / name / f'seed-{seed}'
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / 'results.json'
    results = dict(name=name, seed=seed, flops=0, hours=0)  # of pre-training
    if path.exists():
        results = json.loads(path.read_text())

    def note(**values):
        results.update(values)
        atomic_write(path, json.dumps(results, indent=1).encode())

    backbone = checkpoint = None
    if config is not None:
        cfg, iterations = prepare(
            args, config, seed, epochs_of(args)['pretrain'] * args.budget
        )
        if args.cpu:
            shrink(cfg)
        backbone = cfg.model.backbone.to_dict()
        check_same(cfg, folder / 'pretrain.py')
        checkpoint = folder / 'pretrain' / f'iter_{iterations}.pth'
        if not results['hours']:
            images = iterations * cfg.train_dataloader.batch_size
            note(flops=flops_of_step(cfg) * images)
            hub = train(cfg, checkpoint.parent).message_hub
            # Also of the time before an interruption. The median: other
            # programs take time as well.
            seconds = hub.get_scalar('train/time').data[0]
            note(hours=float(np.median(seconds)) * iterations / 3600)
    for stage in DOWNSTREAM:
        cfg = downstream(args, stage, seed, backbone, checkpoint)
        check_same(cfg, folder / f'{stage}.py')
        encoder = cfg.model.backbone
        if 'knn' not in results:  # of the encoder as it starts
            set_random_seed(seed)
            images = len(DATASETS.build(cfg.train_dataloader.dataset))
            metrics, _, _ = knn.evaluate(
                Config(cfg.to_dict()), k=min(20, images)
            )
            note(knn=float(metrics['accuracy/top1']))
        if stage not in results:
            note(**{stage: evaluate(cfg, folder / stage, 'accuracy/top1')})
    # (Pixels as tokens would be 76,800 for an image of CamVid.)
    if args.transfer and encoder.patch_size == 4:
        for stage, (_, _, metric, scale) in TRANSFER.items():
            if stage not in results:
                cfg = transfer(stage, seed, encoder, checkpoint)
                check_same(cfg, folder / f'{stage}.py')
                value = evaluate(cfg, folder / stage, metric)
                note(**{stage: scale * value})


def transfer(stage, seed, encoder, checkpoint):
    """The config of a transfer; checkpoint None: from scratch.

    Args:
        stage (str): Of TRANSFER.
        seed (int): The seed.
        encoder (dict): Config of the encoder, as fine-tuned.
        checkpoint (Path, optional): Of pre-training.
    """
    cfg = Config.fromfile(TRANSFER[stage][1])
    model, patch_size = cfg.model, encoder.patch_size
    arch = SAIMViT.parse_arch(encoder.arch)
    depth = arch['num_layers']
    if stage == 'bccd':  # windows of as many pixels
        window = model.backbone.window_size * model.backbone.patch_size
        window //= patch_size
    model.backbone.update(arch=arch, patch_size=patch_size)
    quarters = [depth * (i + 1) // 4 - 1 for i in range(4)]
    if stage == 'camvid':
        model.backbone.out_indices = quarters
        model.neck.embed_dim = arch['embed_dims']
        model.decode_head.in_channels = [arch['embed_dims']] * 4
        model.auxiliary_head.in_channels = arch['embed_dims']
    else:
        model.backbone.global_attn_indexes = quarters
        model.backbone.window_size = window
        model.neck.in_channels = arch['embed_dims']
        # Patches of 4 pixels: maps of strides 4, 8, and 16 by pooling.
        model.neck.scales = [1, 0.5]
        model.rpn_head.anchor_generator.update(scales=[8], strides=[4, 8, 16])
        model.roi_head.bbox_roi_extractor.featmap_strides = [4, 8]
    model.backbone.init_cfg = checkpoint and dict(
        type='Pretrained', checkpoint=str(checkpoint), prefix='backbone.'
    )
    cfg.randomness = dict(seed=seed)
    cfg.default_hooks.checkpoint.max_keep_ckpts = 1
    cfg.train_cfg.val_interval = 10**9  # at the end only
    return cfg


def downstream(args, stage, seed, backbone, checkpoint):
    """The config of fine-tuning or linear probing; backbone None: scratch."""
    finetune = stage == 'finetune'
    cfg, _ = prepare(
        args,
        DOWNSTREAM[stage],
        seed,
        epochs_of(args)[stage],
        0.05 * finetune,
    )
    encoder = cfg.model.backbone
    if backbone is not None:
        for key in ('arch', 'img_size', 'patch_size'):
            encoder[key] = backbone[key]
    elif args.cpu:
        encoder.arch = CPU_ARCH
    arch = SAIMViT.parse_arch(encoder.arch)
    encoder.arch = arch
    cfg.model.head.in_channels = arch['embed_dims']
    if finetune:
        if args.cpu:
            encoder.drop_path_rate = 0.0
        if args.cpu or backbone is None:
            # In so few steps lower blocks would hardly move.
            cfg.optim_wrapper.paramwise_cfg.layer_decay_rate = 1.0
    else:
        encoder.frozen_stages = arch['num_layers']
        cfg.model.neck.input_features = arch['embed_dims']
    if backbone is None:
        encoder.init_cfg = None
    else:
        encoder.init_cfg.checkpoint = str(checkpoint)
    return cfg


def flops_of_step(cfg):
    """FLOPs of a step of pre-training for one image, backward included."""
    if is_pretraining(cfg):
        return flops_per_image(cfg)[1]
    cfg = Config(cfg.to_dict())
    images = 2  # BatchNorm wants more than one
    cfg.train_dataloader.update(
        batch_size=images, num_workers=0, persistent_workers=False
    )
    batch = next(iter(Runner.build_dataloader(cfg.train_dataloader)))
    cfg.model.data_preprocessor = cfg.data_preprocessor
    model = MODELS.build(cfg.model).train()
    data = model.data_preprocessor(batch, True)
    return count_flops(lambda: model.loss(**data)['loss'])[1] / images


def start(args, configs):
    """Run what is not there yet, seed by seed: the number that failed."""
    context = multiprocessing.get_context('spawn')
    waiting = [(c, s) for s in args.seeds for c in [None, *configs]]
    running = {}  # place -> process, name, seed
    failed = 0
    gpus = os.getenv('CUDA_VISIBLE_DEVICES')
    gpus = gpus.split(',') if gpus else range(torch.cuda.device_count())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        while waiting or running:
            for place in set(range(args.jobs)) - set(running):
                if waiting:
                    config, seed = waiting.pop(0)
                    if gpus:
                        gpu = gpus[place % len(gpus)]
                        os.environ['CUDA_VISIBLE_DEVICES'] = str(gpu)
                    process = context.Process(
                        target=run_process, args=(args, config, seed)
                    )
                    process.start()
                    running[place] = process, name_of(config), seed
            wait([process.sentinel for process, _, _ in running.values()])
            for place, (process, name, seed) in list(running.items()):
                if process.is_alive():
                    continue
                process.join()
                del running[place]
                folder = args.work_dir / name / f'seed-{seed}'
                print(f'{name}, seed {seed}: ', end='')
                if process.exitcode:
                    failed += 1
                    print(f'FAILED, see {folder}/log.txt', flush=True)
                    continue
                results = json.loads((folder / 'results.json').read_text())
                print(
                    ', '.join(f'{m} {results[m]:.1f}' for m in MEASURES),
                    flush=True,
                )
                report(args.work_dir)
    finally:
        for process, _, _ in running.values():
            process.kill()
    return failed


def run_process(args, config, seed):
    """A process of its own, which writes into the run's log.txt."""
    folder = args.work_dir / name_of(config) / f'seed-{seed}'
    folder.mkdir(parents=True, exist_ok=True)
    log = os.open(
        folder / 'log.txt', os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644
    )
    os.dup2(log, 1)
    os.dup2(log, 2)
    torch.set_num_threads(max(1, os.cpu_count() // args.jobs))
    run(args, config, seed)


def collect(work_dir):
    """The finished runs: name -> list of results."""
    methods = defaultdict(list)
    for path in sorted(work_dir.glob('*/seed-*/results.json')):
        results = json.loads(path.read_text())
        if set(MEASURES) <= set(results):
            methods[results['name']].append(results)
    return methods


def report(work_dir):
    """Write the table and the plot; returns the table."""
    methods = collect(work_dir)
    measures = dict(MEASURES)
    for key, heading in TRANSFERRED.items():
        if any(key in run for runs in methods.values() for run in runs):
            measures[key] = heading
    rows = []
    for name, runs in methods.items():
        accuracy = {
            key: [run[key] for run in runs if key in run] for key in measures
        }
        flops, hours = (
            np.mean([run[key] for run in runs]) for key in ('flops', 'hours')
        )
        rows.append((name, len(runs), flops / 1e15, hours, accuracy))
    rows.sort(key=lambda row: -np.mean(row[4]['finetune']))
    headings = ['pre-training', 'seeds', 'PFLOP', 'hours', *measures.values()]
    lines = [f'| {" | ".join(headings)} |', '| --- ' * len(headings) + '|']
    for name, seeds, petaflops, hours, accuracy in rows:
        cells = [name, str(seeds), f'{petaflops:.3g}', f'{hours:.2f}']
        for values in accuracy.values():
            cell = f'{np.mean(values):.1f}' if values else ''
            if len(values) > 1:
                cell += f' ± {np.std(values, ddof=1):.1f}'
            cells.append(cell)
        lines.append(f'| {" | ".join(cells)} |')
    table = '\n'.join(lines) + '\n'
    atomic_write(work_dir / 'table.md', table.encode())
    plot(rows, work_dir / 'study.png')
    return table


def plot(rows, path):
    """Accuracy against what pre-training costs."""
    figure = Figure(figsize=(11, 8), layout='constrained')
    axes = figure.subplots(2, 2, sharex='col', sharey='row')
    measures = ('finetune', 'linear')
    costs = ((2, 'PFLOP of pre-training'), (3, 'hours of pre-training'))
    for axis, (_, label) in zip(axes[-1], costs):
        axis.set_xlabel(label)
        axis.locator_params(axis='x', nbins=5)
    for row, measure in zip(axes, measures):
        row[0].set_ylabel(f'top-1, {MEASURES[measure]}, %')
        for axis, (cost, _) in zip(row, costs):
            axis.grid(alpha=0.3)
            for number, method in enumerate(rows):
                values = method[4][measure]
                mean = np.mean(values)
                error = np.std(values, ddof=1) if len(values) > 1 else 0
                if method[2] == 0:  # from scratch
                    axis.axhline(mean, color='grey', ls='--', label=method[0])
                    continue
                axis.errorbar(
                    method[cost],
                    mean,
                    error,
                    color=f'C{number % 10}',
                    fmt='osD^v'[number // 10 % 5],
                    label=method[0],
                )
    # The rows' order: best fine-tuned first.
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc='outside right upper'
    )
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('configs', nargs='*', type=Path, metavar='CONFIG')
    parser.add_argument('--cpu', action='store_true')
    parser.add_argument('--budget', type=float, default=1.0)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--jobs', type=int, default=1)
    parser.add_argument('--data', type=Path, default=Path('data/cifar10'))
    parser.add_argument('--transfer', action='store_true')
    parser.add_argument(
        '--work-dir', type=Path, default=Path('work_dirs/study')
    )
    parser.add_argument('--table', action='store_true')
    args = parser.parse_args()
    if args.budget <= 0 or args.jobs < 1:
        parser.error('--budget and --jobs must be positive')
    if min(args.seeds) < 0 or len(set(args.seeds)) < len(args.seeds):
        parser.error('--seeds must be different numbers, not negative')
    for config in args.configs:
        if not config.is_file():
            parser.error(f'{config}: no such file')
    args.work_dir = args.work_dir.resolve()
    args.data = args.data.resolve()
    if args.table:
        if not args.work_dir.is_dir():
            parser.error(f'--work-dir {args.work_dir}: no such folder')
        print(report(args.work_dir), end='')
        return
    if not args.cpu and not torch.cuda.is_available():
        parser.error('no GPU is found here: --cpu runs the reduced form')
    for part in ('train', 'test'):
        if not (args.data / part).is_dir():
            parser.error(
                f'--data {args.data}: must hold the folders train and test; '
                'tools/dataset_converters/cifar10.py makes them'
            )
    for name, (package, *_) in TRANSFER.items() if args.transfer else ():
        if importlib.util.find_spec(package) is None:
            parser.error(
                f'--transfer: {package} is missing; install '
                "'.[onedl,detection,segmentation]' (README.md)"
            )
        if not (ROOT / 'data' / name).is_dir():
            parser.error(
                f'--transfer: data/{name} is missing; '
                'tools/dataset_converters makes it'
            )
    configs = [path.resolve() for path in args.configs] or [
        SAIM,
        *sorted(PRETRAIN.glob('light/*_cifar10.py')),
        *sorted(PRETRAIN.glob('baselines/*_cifar10.py')),
        *sorted(PRETRAIN.glob('ablations/*_cifar10.py')),
    ]
    if not args.configs:
        configs = [c for c in configs if name_of(c) != 'pixels']
    names = Counter(map(name_of, configs))
    for name, number in names.items():
        if number > 1:
            parser.error(f'{number} configs are called {name!r}: must be one')
    args.work_dir.mkdir(parents=True, exist_ok=True)
    settings = dict(cpu=args.cpu, budget=args.budget, data=str(args.data))
    path = args.work_dir / 'settings.json'
    if path.exists() and json.loads(path.read_text()) != settings:
        parser.error(
            f'--work-dir {args.work_dir}: must be another, because the runs '
            f'there have other settings: {path.read_text()}'
        )
    atomic_write(path, json.dumps(settings).encode())
    os.chdir(ROOT)
    failed = start(args, configs)
    print(f'{args.work_dir}/table.md:\n{report(args.work_dir)}', end='')
    sys.exit(bool(failed))


if __name__ == '__main__':
    main()
