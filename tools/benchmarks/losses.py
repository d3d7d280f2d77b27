"""Loss curves with and without the optimisations, from the same seed.

    python tools/benchmarks/losses.py [CONFIG] [--data FOLDER] [--steps 50]
        [--no-compile] [--out FOLDER] [--cfg-options KEY=VALUE ...]

Trains the same steps with MMEngine's Runner for each setting (same weights,
images, crops and orders), prints how far the losses are from those of plain
float32, and draws losses.png. Without --data it reads windows of two
photographs.
"""

import argparse
import tempfile
from pathlib import Path

import matplotlib
import torch
from common import describe, describe_model, make_photos, quiet, save
from mmengine.config import Config, DictAction
from mmengine.device import get_device

import saim_mm

matplotlib.use('agg')
from matplotlib import pyplot as plt  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / (
    'configs/pretrain/saim_vit-base-p16_32xb64-amp-coslr-300e_in1k.py'
)
PLAIN = {
    'optim_wrapper.type': 'OptimWrapper',
    'optim_wrapper.constructor': 'DefaultOptimWrapperConstructor',
    'optim_wrapper.optimizer.fused': False,
}
BFLOAT16 = {'optim_wrapper.type': 'BFloat16OptimWrapper'}
CHECKPOINTING = {'model.backbone.with_cp': True, 'model.neck.with_cp': True}
SETTINGS = {
    'float32, plain': PLAIN,
    'float32, fused AdamW': {'optim_wrapper.type': 'OptimWrapper'},
    'bfloat16, plain AdamW': {**PLAIN, **BFLOAT16},
    'bfloat16': BFLOAT16,
    'bfloat16, checkpointing': {**BFLOAT16, **CHECKPOINTING},
    'bfloat16, compiled': {**BFLOAT16, 'compile': True},
}


def train(args, folder, work_dir, options):
    """The loss of every step."""
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict({**options, **(args.cfg_options or {})})
    loader = cfg.train_dataloader
    loader.update(num_workers=0, persistent_workers=False)
    loader.dataset.data_root = str(folder)
    loader.sampler = dict(type='InfiniteSampler', seed=0)
    cfg.train_cfg = dict(
        type='IterBasedTrainLoop', max_iters=args.steps, val_interval=1e9
    )
    cfg.optim_wrapper.optimizer.lr = args.lr
    cfg.param_scheduler = None
    cfg.log_processor = dict(by_epoch=False)
    cfg.default_hooks.checkpoint = None
    cfg.randomness = dict(seed=0)
    cfg.work_dir = str(work_dir)
    cfg.experiment_name = work_dir.name
    cfg.log_level = 'ERROR'
    runner = saim_mm.SAIMRunner.from_cfg(cfg)
    runner.train()
    return torch.tensor(runner.message_hub.get_scalar('train/loss').data[0])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', nargs='?', type=Path, default=CONFIG)
    parser.add_argument('--data', type=Path, help='a folder of images')
    parser.add_argument('--number', type=int, default=256, help='of photos')
    parser.add_argument('--steps', type=int, default=50)
    parser.add_argument('--lr', type=float, default=1e-4)
    parser.add_argument('--no-compile', dest='compile', action='store_false')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/bench'))
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    args = parser.parse_args()
    quiet()

    curves = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.data or make_photos(Path(temporary, 'p'), args.number)
        for number, (name, options) in enumerate(SETTINGS.items()):
            if args.compile or 'compile' not in options:
                work_dir = Path(temporary, f'run{number}')
                curves[name] = train(args, folder, work_dir, options)

    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options or {})
    title = f'{describe_model(cfg)}, {describe(get_device())}'
    print(f'{title}, {args.steps} steps')
    print('| setting | last loss | difference: mean | largest |')
    print('| --- | --- | --- | --- |')
    reference = curves['float32, plain']
    canvas, (upper, lower) = plt.subplots(2, 1, figsize=(8, 6), sharex=True)
    for name, curve in curves.items():
        difference = (curve - reference).abs()
        print(
            f'| {name} | {curve[-1]:.5f} | {difference.mean():.1e} | '
            f'{difference.max():.1e} |'
        )
        (line,) = upper.plot(curve, label=name)
        if name != 'float32, plain':
            lower.plot(difference, color=line.get_color())
    upper.set(ylabel='loss', title=title)
    upper.legend(fontsize='small')
    lower.set(yscale='log', xlabel='step', ylabel='difference to float32')
    save(canvas, args.out / 'losses.png')


if __name__ == '__main__':
    main()
