"""Count and time a step of pre-training of several configs, side by side.

    python tools/benchmarks/methods.py [CONFIG ...] [--arch deit-small]
        [--batch-size 8] [--steps 5] [--device cuda] [--cfg-options ...]

Printed are the FLOPs (as tools/benchmarks/cost.py counts them) and the time of
forward and backward of each CONFIG, as shares of the first's. The default:
ViT-B/16's, and the lighter decoder. --arch and
--cfg-options: another model size and other options, in all of them.

The configs take turns in one process; a time is a median, and its share the
median of shares within a turn. Without an optimiser; on a GPU in bfloat16.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
from common import describe, quiet
from cost import CONFIG, flops_per_image, read_config
from mmengine.config import DictAction
from mmengine.device import get_device
from mmpretrain.registry import MODELS

PRETRAIN = CONFIG.parent
CONFIGS = [
    CONFIG,
    PRETRAIN / 'light/saim_vit-base-p16_light_32xb64-amp-coslr-300e_in1k.py',
]


def prepare(cfg, batch_size, device):
    """A function that runs a step of a config and returns its seconds."""
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    model.to(device).train()
    images = torch.randn(batch_size, 3, *model.backbone.img_size)
    images = images.to(device)
    cuda = device == 'cuda'

    def step():
        model.zero_grad(set_to_none=True)
        if cuda:
            torch.cuda.synchronize()
        start = time.perf_counter()
        with torch.autocast(device, torch.bfloat16, enabled=cuda):
            loss = model.loss(images)['loss']
        loss.backward()
        if cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - start

    return step


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('configs', nargs='*', type=Path, metavar='CONFIG')
    parser.add_argument('--arch')
    parser.add_argument('--batch-size', type=int, default=8)
    parser.add_argument('--steps', type=int, default=5)
    parser.add_argument('--device', default=get_device())
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    args = parser.parse_args()
    if min(args.batch_size, args.steps) < 1:
        parser.error('--batch-size and --steps must be positive')
    quiet()
    paths = args.configs or CONFIGS
    flops, steps = [], []
    for path in paths:
        cfg = read_config(path, parser)
        cfg.merge_from_dict(args.cfg_options or {})
        if args.arch:
            cfg.model.backbone.arch = args.arch
        flops.append(flops_per_image(cfg)[1])
        steps.append(prepare(cfg, args.batch_size, args.device))
        steps[-1]()  # warm up
    turns = [[step() for step in steps] for _ in range(args.steps)]

    print(f'{describe(args.device)}; batch {args.batch_size}\n')
    print('| config | GFLOP an image | FLOPs, % | ms a step | time, % |')
    print('| --- ' * 5 + '|')
    for number, path in enumerate(paths):
        seconds = statistics.median(turn[number] for turn in turns)
        share = statistics.median(turn[number] / turn[0] for turn in turns)
        print(
            f'| {path.stem} | {flops[number] / 1e9:.4g} | '
            f'{100 * flops[number] / flops[0]:.1f} | {1e3 * seconds:.4g} | '
            f'{100 * share:.1f} |'
        )


if __name__ == '__main__':
    main()
