"""Classify by the nearest neighbours in feature space: no training.

    python tools/knn.py CONFIG [CHECKPOINT] [--k 20] [--temperature 0.07]
        [--readout patch_mean] [--device cuda] [--cfg-options KEY=VALUE ...]

CONFIG is a classification config of mmpretrain: its backbone is evaluated, on
the images of its test set, with those of its training set as neighbours (both
through the test pipeline). CHECKPOINT, of which the backbone is loaded, is a
classifier's or of pre-training, of any format; or it is left out: the
backbone's init_cfg then names the pre-training's. A neighbour votes for its
class with the weight exp(similarity / temperature), by the cosine of the
features, as in DINO's evaluation. The features are what the config's neck
gives, or --readout: cls_token or patch_mean, of --num-blocks last blocks.
"""

import argparse

from mmengine.config import Config, DictAction
from mmengine.device import get_device

import saim_mm  # noqa: F401  registers everything
from saim_mm.evaluation.knn import evaluate
from saim_mm.evaluation.readouts import FIXED


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config')
    parser.add_argument('checkpoint', nargs='?')
    parser.add_argument('--k', type=int, default=20)
    parser.add_argument('--temperature', type=float, default=0.07)
    parser.add_argument('--readout', choices=FIXED)
    parser.add_argument('--num-blocks', type=int)
    parser.add_argument('--device', default=get_device())
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    args = parser.parse_args()
    if args.num_blocks is not None and not args.readout:
        parser.error(f'--num-blocks {args.num_blocks}: needs --readout')

    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options or {})
    readout = args.readout and dict(
        type=FIXED[args.readout].__name__, num_blocks=args.num_blocks or 1
    )
    results, neighbours, images = evaluate(
        cfg, args.checkpoint, args.k, args.temperature, readout, args.device
    )
    for name, value in results.items():
        print(
            f'{args.k}-NN, {neighbours} neighbours, {images} images: '
            f'{name} {value:.2f}'
        )


if __name__ == '__main__':
    main()
