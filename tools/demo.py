"""Pre-train a small SAIM on this machine in a few minutes (`make demo`).

    python tools/demo.py [--out demo]

Pre-trains on scikit-learn's scans of handwritten digits, fine-tunes the model
on ten labelled scans of each digit, and trains a twin from scratch in the same
way. Everything runs through the same configs and scripts as real training.
Interrupted, the same command goes on; what is finished is not run again, until
its folder is deleted. (For images of your own: saim pretrain FOLDER.)
"""

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from matplotlib.figure import Figure
from mmengine.config import Config

ROOT = Path(__file__).resolve().parents[1]
DIGITS = ROOT / 'data/digits'
PRETRAIN = 'configs/pretrain/saim_vit-demo-p4_1xb64-coslr-40e_digits.py'
CLASSIFY = 'configs/classification/vit-demo-p4_1xb50-coslr-100e_digits.py'


def run(title, log, script, *arguments):
    """Run a script of this project; show its progress, log the rest."""
    print(
        f'\n== {title}\n   python {script} {shlex.join(arguments)}', flush=True
    )
    start = time.time()
    with (
        open(log, 'w') as file,
        subprocess.Popen(
            [sys.executable, script, *arguments],
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        lines, shown = [], 0
        for line in process.stdout:
            file.write(line)
            lines.append(line.rstrip())
            if '(train)' in line and time.time() - shown > 5:
                shown = time.time()
            elif not any(
                word in line for word in ('accuracy', 'wrote', 'unreadable')
            ):
                continue
            print('   ' + line.split('INFO - ')[-1].rstrip(), flush=True)
    if process.returncode != 0:
        error = next((x for x in reversed(lines) if x), '')
        raise SystemExit(f'\n{title} failed: {error}\n(see {log})')
    print(f'   {time.time() - start:.0f} s', flush=True)


def train(title, work_dir, config, *options):
    """Train, or go on; return the checkpoint and the logged scalars."""
    epochs = Config.fromfile(ROOT / config).train_cfg.max_epochs
    checkpoint = work_dir / f'epoch_{epochs}.pth'
    if checkpoint.is_file():
        print(f'\n== {title}\n   is there: {checkpoint}')
    else:
        if options:
            options = ('--cfg-options', *options)
        run(
            title,
            f'{work_dir}.log',
            'tools/train.py',
            config,
            *('--work-dir', str(work_dir), '--resume', *options),
        )
    logs = sorted(work_dir.glob('*/vis_data/scalars.json'))
    lines = [line for log in logs for line in log.read_text().splitlines()]
    return checkpoint, [json.loads(line) for line in lines]


def plot_loss(scalars, path):
    """Draw the training loss."""
    figure = Figure(figsize=(6, 3.5), layout='constrained')
    axis = figure.subplots()
    records = [x for x in scalars if 'loss' in x]
    axis.plot([x['step'] for x in records], [x['loss'] for x in records])
    axis.set(
        xlabel='training step', ylabel='pre-training loss', ylim=(0, None)
    )
    axis.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    print(f'wrote {path}')


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--out', default='demo', type=Path)
    args = parser.parse_args()
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)

    run(
        'data',
        out / 'data.log',
        'tools/dataset_converters/digits.py',
        '--out',
        str(DIGITS),
    )
    checkpoint, scalars = train('pre-training', out / 'pretrain', PRETRAIN)
    checkpoint = shutil.copy(checkpoint, out / 'saim.pth')
    run(
        'reconstruction',
        out / 'reconstruction.log',
        'tools/visualization/reconstruction.py',
        str(DIGITS / 'val'),
        *('--config', PRETRAIN, '--checkpoint', str(checkpoint)),
        *('--out', str(out / 'reconstruction.png')),
    )
    plot_loss(scalars, out / 'loss.png')
    print(f'\nThe checkpoint is {checkpoint}; the rest is beside it.')

    pretrained = [
        'model.backbone.init_cfg.type=Pretrained',
        f'model.backbone.init_cfg.checkpoint={checkpoint}',
        'model.backbone.init_cfg.prefix=backbone.',
    ]
    accuracy = {}
    for title, name, options in (
        ('SAIM, fine-tuned', 'finetune', pretrained),
        ('from scratch', 'scratch', []),
    ):
        _, scalars = train(title, out / name, CLASSIFY, *options)
        accuracy[title] = [
            x['accuracy/top1'] for x in scalars if 'accuracy/top1' in x
        ][-1]
    table = [
        '| 100 labelled digits, 100 epochs | top-1 on 360 others |',
        '| --- | --- |',
    ]
    table += [
        f'| {name} | {value:.1f} % |' for name, value in accuracy.items()
    ]
    (out / 'results.md').write_text('\n'.join(table) + '\n')
    print('\n' + '\n'.join(table))


if __name__ == '__main__':
    main()
