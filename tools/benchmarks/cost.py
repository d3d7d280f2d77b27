"""Count the FLOPs of pre-training, and how long they take on some machines.

    python tools/benchmarks/cost.py [CONFIG]
        (--images-per-second N | --tflops N) [--images 1281167]
        [--gpus 1 2 4 8 16 32]

CONFIG (default: ViT-B/16 for 300 epochs) gives the model, the whole batch and
the epochs. The speed of one GPU is measured (--images-per-second, as
tools/benchmarks/epoch.py prints it), or assumed: --tflops is the rate at which
it multiplies matrices in this training. Several GPUs are taken to be as many
times as fast. Nothing is trained.
"""

import argparse
import re
from pathlib import Path

import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS

from saim_mm.models.saim import is_pretraining
from saim_mm.models.teachers import FrozenTeacher
from saim_mm.utils.flops import count_flops

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / (
    'configs/pretrain/saim_vit-base-p16_32xb64-amp-coslr-300e_in1k.py'
)


def flops_per_image(cfg):
    """FLOPs of a training step for one image: (forward, whole step).

    With what a teacher, or the encoder itself, does to look at it.
    """
    model = MODELS.build(cfg.model)
    if isinstance(model.teacher, FrozenTeacher):
        model.teacher.loaded = True  # other weights cost the same
    height, width = model.backbone.img_size
    images = torch.rand(1, model.backbone.in_channels, height, width)
    return count_flops(lambda: model.loss(images)['loss'])


def read_config(path, parser):
    """A pre-training config of SAIM, or the parser's error."""
    if not Path(path).is_file():
        parser.error(f'{path}: no such file')
    cfg = Config.fromfile(path)
    if not is_pretraining(cfg):
        parser.error(f'{path}: must be a pre-training config')
    return cfg


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', nargs='?', default=CONFIG)
    speed = parser.add_mutually_exclusive_group(required=True)
    speed.add_argument('--images-per-second', type=float, metavar='N')
    speed.add_argument('--tflops', type=float, metavar='N')
    parser.add_argument('--images', type=int, default=1281167)
    parser.add_argument(
        '--gpus', type=int, nargs='+', default=[1, 2, 4, 8, 16, 32]
    )
    args = parser.parse_args()
    if min(args.images_per_second or 1, args.tflops or 1, *args.gpus) <= 0:
        parser.error('speed and number of GPUs must be positive')
    cfg = read_config(args.config, parser)
    forward, step = flops_per_image(cfg)
    batch = cfg.train_dataloader.batch_size
    if found := re.search(r'_(\d+)xb', Path(args.config).stem):
        batch *= int(found[1])
    epochs = cfg.train_cfg.get('max_epochs')
    if epochs is None:
        epochs = cfg.train_cfg.max_iters * batch / args.images
    rate = args.images_per_second or args.tflops * 1e12 / step
    print(
        f'{Path(args.config).stem}: {forward / 1e9:.1f} GFLOP forward and '
        f'{step / 1e9:.1f} in a step for each image; {epochs:g} epochs of '
        f'{args.images:,} images: {step * epochs * args.images / 1e18:.3g} '
        f'EFLOP. One GPU: {rate:.4g} images/s, '
        f'{rate * step / 1e12:.3g} TFLOP/s'
    )
    print('| GPUs | images each | minutes an epoch | days | GPU hours |')
    print('| --- ' * 5 + '|')
    for gpus in args.gpus:
        hours = args.images / rate / gpus / 3600
        print(
            f'| {gpus} | {batch / gpus:g} | {hours * 60:.3g} | '
            f'{hours * epochs / 24:.3g} | {hours * epochs * gpus:.4g} |'
        )


if __name__ == '__main__':
    main()
