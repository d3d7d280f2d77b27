"""Images per second and core of the input pipeline, beside the stock one.

    python tools/benchmarks/dataloader.py [--data FOLDER] [--rounds 5]
        [--workers 0] [--small]

Both pipelines read the same JPEG files (FOLDER, or windows of two photographs
of ImageNet's usual size) with the same crop boxes, on one core, and take
turns; printed are medians, their ratio, and how far the pixels differ. The
stock pipeline is mmpretrain's for MAE with the paper's crop: decode with
OpenCV, crop, bicubic resize with Pillow, flip, pack. With --workers N the
whole dataloader of the config is timed as well, with N processes.

--small: instead, the two ways to load images of 32 pixels (FOLDER's, or parts
of two photographs): one by one in a loading process, and decoded once and
cropped in batches.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from common import make_photos, quiet
from mmengine.config import Config
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS, MODELS
from PIL import Image

import saim_mm  # noqa: F401  registers what the configs name

CONFIG = 'configs/pretrain/saim_vit-base-p16_32xb64-amp-coslr-300e_in1k.py'
SMALL = 'configs/_base_/datasets/cifar10{}_bs512_saim.py'
ROOT = Path(__file__).resolve().parents[2]


def stock(pipeline):
    """The pipeline of a config, as mmpretrain would write it."""
    crop, *rest = pipeline
    return [
        dict(type='LoadImageFromFile'),
        {**crop, 'type': 'RandomResizedCrop', 'backend': 'pillow'},
        *rest,
    ]


def seconds_per_image(dataset):
    """Load every image once, with the same boxes each time."""
    np.random.seed(0)
    start = time.perf_counter()
    for index in range(len(dataset)):
        dataset[index]
    return (time.perf_counter() - start) / len(dataset)


def pixel_difference(datasets):
    """Mean and largest difference of the images that two datasets give."""
    means, largest = [], 0
    for index in range(min(len(d) for d in datasets)):
        images = []
        for dataset in datasets:
            np.random.seed(index)
            images.append(dataset[index]['inputs'].int())
        difference = (images[0] - images[1]).abs()
        means.append(difference.float().mean().item())
        largest = max(largest, difference.max().item())
    return statistics.mean(means), largest


def print_rates(what, unit, seconds):
    """A table of medians: of a unit, 'ms' or 'us', per image, and images/s."""
    scale, digits = dict(ms=(1e3, 2), us=(1e6, 0))[unit]
    print(f'| {what} | {unit} per image | images/s |')
    print('| --- | --- | --- |')
    for name, values in seconds.items():
        median = statistics.median(values)
        print(f'| {name} | {scale * median:.{digits}f} | {1 / median:.0f} |')


def time_loader(cfg, folder, workers, batch_size, rounds):
    """Images per second of the config's own dataloader."""
    loader = cfg.train_dataloader
    loader.update(num_workers=workers, batch_size=batch_size, drop_last=True)
    loader.persistent_workers = workers > 0
    loader.dataset.data_root = str(folder)
    loader = Runner.build_dataloader(loader)
    rates = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        images = sum(len(batch['inputs']) for batch in loader)
        rates.append(images / (time.perf_counter() - start))
    return statistics.median(rates[1:])


def make_small(folder, number):
    """Write parts of photographs, 32 pixels wide, as JPEG files."""
    photos = [Image.open(x) for x in make_photos(folder / 'photos').iterdir()]
    draw = np.random.default_rng(0)
    (folder / 'small').mkdir()
    for index in range(number):
        photo = photos[index % len(photos)]
        x, y = (draw.integers(side - 128) for side in photo.size)
        part = photo.crop((x, y, x + 128, y + 128)).resize((32, 32))
        part.save(folder / f'small/{index:05}.jpg', quality=95)
    return folder / 'small'


def small_ones(folder, batch_size, rounds):
    """Print what a batch of small images costs, in both ways."""
    forms = {'one by one, a loading process': '', 'in batches': '-in-memory'}
    loaders = {}
    for name, variant in forms.items():
        cfg = Config.fromfile(ROOT / SMALL.format(variant))
        workers = 0 if variant else 1
        cfg.train_dataloader.update(
            batch_size=batch_size,
            num_workers=workers,
            persistent_workers=workers > 0,
        )
        cfg.train_dataloader.dataset.data_root = str(folder)
        start = time.perf_counter()
        loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
        if len(loader) == 0:
            raise SystemExit(
                f'--data {folder}: must hold {batch_size} images of 32 pixels'
            )
        loaders[name] = loader, MODELS.build(cfg.data_preprocessor)
        started = time.perf_counter() - start
    seconds = {name: [] for name in loaders}
    for repeat in range(rounds + 1):
        for name, (loader, preprocessor) in loaders.items():
            start = time.perf_counter()
            for batch in loader:
                preprocessor(batch, True)
            taken = (time.perf_counter() - start) / len(loader) / batch_size
            if repeat:  # the first warms up
                seconds[name].append(taken)
    images = len(loader.dataset)
    print(
        f'{images} images, batches of {batch_size}, normalised; one thread, '
        f'median of {rounds}, torch {torch.__version__}. Decoding all once: '
        f'{1e6 * started / images:.0f} us an image'
    )
    print_rates('small images', 'us', seconds)
    first, second = seconds.values()
    ratio = statistics.median(a / b for a, b in zip(first, second))
    print(f'one by one / in batches: {ratio:.1f} x the time')


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--data', type=Path, help='a folder of images')
    parser.add_argument('--number', type=int, default=64, help='of photos')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--workers', type=int, default=0)
    parser.add_argument(
        '--small', action='store_true', help='images of 32 pixels'
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if args.small:
        quiet()
        with tempfile.TemporaryDirectory() as temporary:
            folder = args.data or make_small(Path(temporary), 2048)
            small_ones(folder, 128, args.rounds)
        return

    cfg = Config.fromfile(ROOT / CONFIG)
    settings = cfg.train_dataloader.dataset
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.data or make_photos(Path(temporary), args.number)
        settings.data_root = str(folder)
        pipelines = dict(
            stock=stock(settings.pipeline), ours=settings.pipeline
        )
        datasets = {
            name: DATASETS.build({**settings, 'pipeline': pipeline})
            for name, pipeline in pipelines.items()
        }
        seconds = {name: [] for name in datasets}
        for repeat in range(args.rounds + 1):
            for name, dataset in datasets.items():
                taken = seconds_per_image(dataset)
                if repeat:  # the first warms up
                    seconds[name].append(taken)
        mean, largest = pixel_difference(list(datasets.values()))

        print(
            f'{len(datasets["ours"])} images, one core, median of '
            f'{args.rounds}, torch {torch.__version__}'
        )
        print_rates('pipeline', 'ms', seconds)
        ratios = [a / b for a, b in zip(seconds['stock'], seconds['ours'])]
        print(
            f'stock / ours: {statistics.median(ratios):.2f} x the time. Same '
            f'boxes; pixels (0-255) differ by {mean:.3f} in the mean, '
            f'{largest} at most'
        )
        if args.workers:
            rate = time_loader(
                cfg,
                folder,
                args.workers,
                max(1, len(datasets['ours']) // (2 * args.workers)),
                args.rounds,
            )
            print(f'dataloader, {args.workers} workers: {rate:.0f} images/s')


if __name__ == '__main__':
    main()
