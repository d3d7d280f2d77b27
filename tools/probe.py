"""Read a frozen encoder out in every way: no training of it, no augmentation.

    python tools/probe.py CONFIG [CHECKPOINT] --train FOLDER --val FOLDER
        [--probes linear knn rank_me attentive efficient] [--num-blocks 1]
        [--k 20] [--epochs 10] [--seed 0] [--out results.json]

CONFIG is of pre-training or classification; its backbone is evaluated, with
the weights of CHECKPOINT (a file, or saim_mm://NAME), or with random ones.
Each FOLDER holds a sub-folder of images for each class. The features are
computed once and kept in memory, for attentive and efficient probing all
tokens: 600 MB for 50,000 images of 65 tokens of 96 channels.

Prints JSON: top-1 in per cent of a linear layer and of the nearest neighbours
on class token and mean of the patches, of attentive and of efficient probing;
and RankMe of the training images.
"""

import argparse
import json
import time
from pathlib import Path

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import MMLogger

import saim_mm  # noqa: F401  registers everything
from saim_mm.checkpoint.atomic import atomic_write, check_no_folder
from saim_mm.evaluation.probes import PROBES, evaluate_folders


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config')
    parser.add_argument('checkpoint', nargs='?')
    parser.add_argument('--train', required=True, metavar='FOLDER')
    parser.add_argument('--val', required=True, metavar='FOLDER')
    parser.add_argument('--probes', nargs='+', choices=PROBES, default=PROBES)
    parser.add_argument('--num-blocks', type=int, default=1)
    parser.add_argument('--k', type=int, default=20)
    parser.add_argument('--epochs', type=int, default=10)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--batch-size', type=int, default=64)
    parser.add_argument('--num-workers', type=int, default=0)
    parser.add_argument('--device', default=get_device())
    parser.add_argument('--out', type=Path)
    args = parser.parse_args()
    if args.out:
        try:
            check_no_folder(args.out)
        except OSError as error:
            parser.error(f'--out: {error}')

    MMLogger.get_instance('probe', log_level='WARNING')
    begin = time.time()
    results = evaluate_folders(
        Config.fromfile(args.config),
        args.checkpoint,
        args.train,
        args.val,
        probes=args.probes,
        num_blocks=args.num_blocks,
        k=args.k,
        epochs=args.epochs,
        seed=args.seed,
        batch_size=args.batch_size,
        num_workers=args.num_workers,
        device=args.device,
    )
    results = dict(
        config=args.config,
        checkpoint=args.checkpoint,
        seed=args.seed,
        num_blocks=args.num_blocks,
        seconds=round(time.time() - begin, 1),
        **{name: round(value, 2) for name, value in results.items()},
    )
    text = json.dumps(results, indent=1)
    print(text)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(args.out, f'{text}\n'.encode())


if __name__ == '__main__':
    main()
