"""Compare ways to pre-train: the same images, the same ViT, as often seen.

    python tools/study/run.py [CONFIG ...] [--form mini] [--seeds 0 1 2]
        [--jobs 2] [--frozen CONFIG] [--downstream NAME=CONFIG ...]
        [--cfg-options KEY=VALUE ...] [--work-dir work_dirs/study]

Each CONFIG (default: SAIM on CIFAR-10, baselines, ablations, a light decoder
and what is beyond the paper) is pre-trained as it stands; its frozen encoder
is then read out in every way (saim_mm.evaluation.probes), on the images and
labels of --frozen, and trained by each config of --downstream. Beside them
stands the ViT from scratch, whose readouts are those of random weights. Data
are looked for below the current folder, as the configs say (data/cifar10).

Runs go seed by seed, --jobs at a time, each in a process with one thread. One
that is there is not repeated, one that was interrupted goes on from its last
checkpoint; its log.txt is beside its results.json. Checkpoints of
pre-training stay, so that another readout costs minutes. After each run the
table and the plot are written anew (tools/study/table.py).

--form: mini, a ViT of 4 blocks with 96 channels for CPUs; fashion, the same on
Fashion-MNIST, for the methods that decide; or tiny, ViT-Ti for GPUs (default:
mini or tiny, by what is there). It chooses the configs that are not given.
--cfg-options change every pre-training, for example tiny's to 100 epochs:
train_cfg.max_epochs=100 param_scheduler.0.end=5 param_scheduler.1.begin=5
param_scheduler.1.end=100. Other settings of a config need another --work-dir.
--downstream takes any config with a SAIMViT, of mmpretrain, mmdet or mmseg,
--frozen one of mmpretrain. The ablation `pixels` costs as much as all others
together and is run only if its config is given.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import signal
import sys
from collections import Counter
from multiprocessing.connection import wait
from pathlib import Path

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
#: Form -> the names of its pre-training configs, the config whose images the
#: frozen encoder reads, and {column: downstream config}.
FORMS = dict(
    mini=(
        '*_vit-mini-p4_*1xb128-coslr-20e_cifar10.py',
        'vit-mini-p4_1xb128-linear-coslr-5e_cifar10.py',
        dict(
            finetune10='vit-mini-p4_1xb128-coslr-10e_cifar10-10percent.py',
            finetune='vit-mini-p4_1xb128-coslr-5e_cifar10.py',
        ),
    ),
    fashion=(
        '*_vit-mini-p4_*1xb128-coslr-20e_fashion-mnist.py',
        'vit-mini-p4_1xb128-linear-coslr-5e_fashion-mnist.py',
        dict(
            finetune10='vit-mini-p4_1xb128-coslr-10e_fashion-mnist-'
            '10percent.py',
            finetune='vit-mini-p4_1xb128-coslr-5e_fashion-mnist.py',
        ),
    ),
    tiny=(
        '*_vit-tiny-p4_*1xb512-amp-coslr-400e_cifar10.py',
        'vit-tiny-p4_1xb256-linear-coslr-50e_cifar10.py',
        dict(
            finetune='vit-tiny-p4_1xb256-amp-coslr-100e_cifar10.py',
        ),
    ),
)
SCRATCH = 'scratch'


def name_of(config: Path | None) -> str:
    """A method's short name, from that of its config (None: no method)."""
    if config is None:
        return SCRATCH
    found = re.match(r'([^_]+)_[^_]+_(?:(.+)_)?\d+xb', config.stem)
    if not found:
        return config.stem
    algorithm, variant = found.groups()
    if variant is None:
        return algorithm
    return variant if algorithm == 'saim' else f'{algorithm}-{variant}'


def start(args: argparse.Namespace) -> int:
    """Run what is not there yet, seed by seed: how many failed."""
    import torch
    from arm import run_process
    from table import report

    context = multiprocessing.get_context('spawn')
    waiting = [(c, s) for s in args.seeds for c in [None, *args.configs]]
    running = {}  # place -> process, name, seed
    failed = 0
    gpus = os.getenv('CUDA_VISIBLE_DEVICES')
    gpus = gpus.split(',') if gpus else range(torch.cuda.device_count())
    os.environ['OMP_NUM_THREADS'] = '1'
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        while waiting or running:
            for place in set(range(args.jobs)) - set(running):
                if waiting:
                    config, seed = waiting.pop(0)
                    name = name_of(config)
                    if gpus:
                        gpu = gpus[place % len(gpus)]
                        os.environ['CUDA_VISIBLE_DEVICES'] = str(gpu)
                    process = context.Process(
                        target=run_process,
                        args=(
                            args.work_dir / name / f'seed-{seed}',
                            *(name, config, seed),
                            *(args.frozen, args.downstream),
                            args.cfg_options,
                        ),
                    )
                    process.start()
                    running[place] = process, name, seed
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
                accuracy = results['accuracy'].items()
                print(', '.join(f'{k} {v:.1f}' for k, v in accuracy))
                sys.stdout.flush()
                report(args.work_dir)
    finally:
        for process, _, _ in running.values():
            process.kill()
    return failed


def check_columns(parser: argparse.ArgumentParser, words: list[str]) -> None:
    """Refuse what is no NAME=CONFIG, or a name that is another's."""
    from arm import READOUTS

    names = Counter(word.partition('=')[0] for word in words)
    for word in words:
        name, _, path = word.partition('=')
        if not name or not path:
            parser.error(f'--downstream {word}: must be NAME=CONFIG')
        if names[name] > 1 or name in (*READOUTS, 'pretrain', 'frozen'):
            parser.error(
                f'--downstream {word}: {name!r} is the name of another column '
                'or stage; choose one of your own'
            )


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The options, looked at; what is not given is chosen."""
    parser.add_argument('configs', nargs='*', type=Path, metavar='CONFIG')
    parser.add_argument('--form', choices=FORMS)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--jobs', type=int)
    parser.add_argument('--frozen', type=Path, metavar='CONFIG')
    parser.add_argument('--downstream', nargs='+', metavar='NAME=CONFIG')
    parser.add_argument('--cfg-options', nargs='+', metavar='KEY=VALUE')
    parser.add_argument(
        '--work-dir', type=Path, default=Path('work_dirs/study')
    )
    args = parser.parse_args()
    if args.jobs is not None and args.jobs < 1:
        parser.error(f'--jobs {args.jobs}: must be positive')
    if min(args.seeds) < 0 or len(set(args.seeds)) < len(args.seeds):
        parser.error('--seeds must be different numbers, not negative')

    import torch
    from mmengine.config import DictAction

    options = argparse.ArgumentParser(usage=argparse.SUPPRESS)
    options.add_argument('--cfg-options', nargs='+', action=DictAction)
    words = ['--cfg-options', *args.cfg_options] if args.cfg_options else []
    args.cfg_options = options.parse_args(words).cfg_options or {}

    gpus = torch.cuda.device_count()
    args.jobs = args.jobs or gpus or os.cpu_count()
    form = args.form or ('tiny' if gpus else 'mini')
    pattern, frozen, downstream = FORMS[form]
    args.configs = [path.resolve() for path in args.configs] or [
        path
        for folder in ('.', 'baselines', 'ablations', 'light', 'beyond')
        for path in sorted((CONFIGS / 'pretrain' / folder).glob(pattern))
        if name_of(path) != 'pixels'
    ]
    args.frozen = args.frozen or CONFIGS / 'classification' / frozen
    args.frozen = args.frozen.resolve()
    check_columns(parser, args.downstream or [])
    args.downstream = (
        {k: CONFIGS / 'classification' / v for k, v in downstream.items()}
        if args.downstream is None
        else {
            name: Path(path).resolve()
            for name, _, path in (x.partition('=') for x in args.downstream)
        }
    )
    for path in (*args.configs, args.frozen, *args.downstream.values()):
        if not path.is_file():
            parser.error(f'{path}: no such file')
    for name, number in Counter(map(name_of, args.configs)).items():
        if number > 1:
            parser.error(f'{number} configs are called {name!r}: must be one')
    args.work_dir = args.work_dir.resolve()
    return args


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    args = parse(parser)
    from arm import check_data
    from table import report

    try:
        for config in (*args.configs, args.frozen, *args.downstream.values()):
            check_data(config)
    except (ValueError, ImportError) as error:
        parser.error(str(error))
    args.work_dir.mkdir(parents=True, exist_ok=True)
    failed = start(args)
    print(f'{args.work_dir}/table.md:\n{report(args.work_dir)}', end='')
    sys.exit(bool(failed))


if __name__ == '__main__':
    main()
