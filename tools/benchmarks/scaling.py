"""Weak scaling: as many images on each of more processes.

    python tools/benchmarks/scaling.py [CONFIG] [--processes 2] [--steps 10]
        [--tflops 300] [--bandwidth 25] [--latency 10]
        [--gpus 8 16 32 64 128 256] [--cfg-options KEY=VALUE ...]

First it measures: each step of one process (the others wait) is followed by
one of all together, whose gradients are averaged; the medians are printed.
The processes have a GPU each, or a thread of the CPU each. The images are
random numbers, so loading is left out.

Then it computes, for GPUs that are not here, how long averaging takes beside
the FLOPs of a step, from three assumptions: the rate at which one GPU
multiplies matrices in this training (--tflops), how much it sends in a second
(--bandwidth, GB/s, the slowest link of the ring) and how long a message takes
(--latency, microseconds). This is a model, not a measurement; docs/speed.md
has the formula.
"""

import argparse
import copy
import math
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist
from common import describe, describe_model, quiet
from cost import CONFIG, flops_per_image
from mmengine.config import Config, DictAction
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import build_optim_wrapper
from mmpretrain.registry import MODELS

from saim_mm.models.saim import is_pretraining

#: DDP averages gradients in pieces of so many bytes.
BUCKET = 25 * 2**20


def measure(rank, args, cfg, folder):
    """One process of several; the first writes seconds of both to a file."""
    quiet()
    cuda = torch.cuda.is_available()
    device = f'cuda:{rank}' if cuda else 'cpu'
    if cuda:
        torch.cuda.set_device(rank)
    torch.set_num_threads(1)
    dist.init_process_group(
        'nccl' if cuda else 'gloo',
        f'file://{folder}/meet',
        rank=rank,
        world_size=args.processes,
    )
    torch.manual_seed(0)
    alone = MODELS.build(cfg.model)
    alone.init_weights()
    alone.to(device)
    together = MMDistributedDataParallel(
        copy.deepcopy(alone),
        device_ids=[rank] if cuda else None,
        broadcast_buffers=False,
    )
    optim_wrappers = {
        model: build_optim_wrapper(model, cfg.optim_wrapper)
        for model in (alone, together)
    }
    size = cfg.train_dataloader.batch_size, 3, *alone.backbone.img_size
    batch = dict(
        inputs=torch.randint(256, size, dtype=torch.uint8), data_samples=[]
    )

    def step(model):
        """Seconds of a step."""
        dist.barrier()
        start = time.perf_counter()
        if model is together or rank == 0:
            model.train_step(dict(batch), optim_wrappers[model])
            if cuda:
                torch.cuda.synchronize()
        return time.perf_counter() - start

    pairs = [(step(alone), step(together)) for _ in range(args.steps + 2)][2:]
    if rank == 0:
        torch.save(pairs, f'{folder}/seconds')
    dist.barrier()
    dist.destroy_process_group()


def averaging(size, gpus, bandwidth, latency):
    """Seconds that a ring takes to average bytes on some GPUs, in buckets."""
    buckets = math.ceil(size / BUCKET)
    return (
        2 * (gpus - 1) / gpus * size / bandwidth
        + buckets * 2 * (gpus - 1) * latency
    )


def exposed(seconds, backward, size):
    """Those seconds of averaging that the backward pass does not hide.

    The first bucket is full after its part of the backward pass, and the last
    is averaged after all of it.
    """
    buckets = math.ceil(size / BUCKET)
    return max(
        backward / buckets + seconds - backward,
        seconds / buckets,
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', nargs='?', type=Path, default=CONFIG)
    parser.add_argument('--processes', type=int, default=2)
    parser.add_argument('--steps', type=int, default=10)
    parser.add_argument('--tflops', type=float, default=300.0)
    parser.add_argument('--bandwidth', type=float, default=25.0)
    parser.add_argument('--latency', type=float, default=10.0)
    parser.add_argument(
        '--gpus', type=int, nargs='+', default=[8, 16, 32, 64, 128, 256]
    )
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    args = parser.parse_args()
    for name in ('processes', 'steps', 'tflops', 'bandwidth'):
        if getattr(args, name) <= 0:
            parser.error(f'--{name} {getattr(args, name)}: must be positive')
    here = torch.cuda.device_count() or os.cpu_count()
    if args.processes > here:
        parser.error(f'--processes {args.processes}: at most {here} here')
    if args.latency < 0 or min(args.gpus) < 2:
        parser.error('--latency must be 0 or more, and --gpus 2 or more')
    if not args.config.is_file():
        parser.error(f'{args.config}: no such file')
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options or {})
    if not is_pretraining(cfg):
        parser.error(f'{args.config}: must be a pre-training config')

    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.start_processes(
            measure,
            (args, cfg, folder),
            nprocs=args.processes,
            # CUDA cannot be forked; else it saves importing everything again.
            start_method='spawn' if torch.cuda.is_available() else 'fork',
        )
        pairs = torch.load(f'{folder}/seconds')
    batch = cfg.train_dataloader.batch_size
    alone, together = (statistics.median(s) for s in zip(*pairs))
    ratio = statistics.median(one / all_ for one, all_ in pairs)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    torch.set_num_threads(1)
    print(
        f'Measured: {describe_model(cfg)} for each process, '
        f'{describe(device)}, medians of {args.steps} pairs of steps'
    )
    print(
        '| processes | images/s of each | efficiency |\n' + '| --- ' * 3 + '|'
    )
    print(f'| 1 | {batch / alone:.3g} | 1 |')
    print(f'| {args.processes} | {batch / together:.3g} | {ratio:.3f} |')

    forward, step = flops_per_image(cfg)
    size = 4 * sum(
        p.numel()
        for p in MODELS.build(cfg.model).parameters()
        if p.requires_grad
    )
    compute = step * batch / args.tflops / 1e12
    backward = compute * (1 - forward / step)
    print(
        f'\nA model, **not a measurement**: {size / 1e6:.0f} MB of gradients '
        f'in float32, {step * batch / 1e12:.3g} TFLOP a step of each GPU; '
        f'assumed: {args.tflops:g} TFLOP/s, {args.bandwidth:g} GB/s, '
        f'{args.latency:g} microseconds'
    )
    print('| GPUs | images | averaging, ms | not hidden, ms | efficiency |')
    print('| --- ' * 5 + '|')
    for gpus in args.gpus:
        seconds = averaging(
            size, gpus, args.bandwidth * 1e9, args.latency / 1e6
        )
        late = exposed(seconds, backward, size)
        print(
            f'| {gpus} GPUs | {gpus * batch} | {1e3 * seconds:.1f} | '
            f'{1e3 * late:.1f} | {compute / (compute + late):.3f} |'
        )


if __name__ == '__main__':
    main()
