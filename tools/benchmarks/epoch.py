"""How far training is below the smaller of its loader and its model.

    python tools/benchmarks/epoch.py [CONFIG] [--data FOLDER] [--steps 30]
        [--cfg-options KEY=VALUE ...]

Trains with MMEngine's Runner on JPEG files (FOLDER, or windows of two
photographs of ImageNet's usual size), then times the same dataloader without
the model and the same training step without the dataloader (on a batch in
host memory), and prints images/s of the three. On a machine whose cores do
both, loader and model share them, which this cannot show apart.
"""

import argparse
import itertools
import statistics
import tempfile
import time
from pathlib import Path

import torch
from common import describe, describe_model, make_photos, quiet
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.runner import Runner

import saim_mm

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / (
    'configs/pretrain/saim_vit-base-p16_32xb64-amp-coslr-300e_in1k.py'
)


def wait():
    """Wait for the device."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def rate(batches, batch_size, use):
    """Images per second of using batches, the first few left out."""
    warm_up = 3
    seconds = []
    start = time.perf_counter()
    for batch in batches:
        use(batch)
        wait()
        end = time.perf_counter()
        seconds.append(end - start)
        start = end
    return batch_size * len(seconds[warm_up:]) / sum(seconds[warm_up:])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', nargs='?', type=Path, default=CONFIG)
    parser.add_argument('--data', type=Path, help='a folder of images')
    parser.add_argument('--number', type=int, default=1024, help='of photos')
    parser.add_argument('--steps', type=int, default=30)
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    args = parser.parse_args()
    quiet()

    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options or {})
    with tempfile.TemporaryDirectory() as temporary:
        loader = cfg.train_dataloader
        folder = args.data or make_photos(Path(temporary, 'p'), args.number)
        loader.dataset.data_root = str(folder)
        loader.sampler = dict(type='InfiniteSampler')
        loader.pin_memory = get_device() == 'cuda'
        cfg.train_cfg = dict(
            type='IterBasedTrainLoop', max_iters=args.steps, val_interval=1e9
        )
        cfg.param_scheduler = None
        cfg.log_processor = dict(by_epoch=False)
        cfg.default_hooks.checkpoint = None
        cfg.work_dir = temporary
        cfg.experiment_name = 'epoch'
        cfg.log_level = 'ERROR'
        runner = saim_mm.SAIMRunner.from_cfg(cfg)
        runner.train()
        seconds = runner.message_hub.get_scalar('train/time').data[0][3:]
        size = loader.batch_size
        training = size / statistics.mean(seconds)

        batches = iter(Runner.build_dataloader(loader))
        first = next(batches)
        loading = rate(
            itertools.islice(batches, args.steps), size, lambda batch: None
        )
        model = rate(
            itertools.repeat(first, args.steps),
            size,
            lambda batch: runner.model.train_step(
                dict(batch), runner.optim_wrapper
            ),
        )
    limit = min(loading, model)
    print(
        f'{describe_model(cfg)}, {loader.num_workers} workers, '
        f'{describe(get_device())}, {args.steps} steps'
    )
    print('| | images/s |\n| --- | --- |')
    print(f'| dataloader alone | {loading:.4g} |')
    print(f'| model alone | {model:.4g} |')
    print(f'| training | {training:.4g} |')
    print(
        f'training is {100 * (1 - training / limit):.1f} % below the smaller '
        'of the two'
    )


if __name__ == '__main__':
    main()
