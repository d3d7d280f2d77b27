"""What the tools of this folder share."""

import argparse
import inspect
from dataclasses import replace
from pathlib import Path

import torch
from mmengine.config import Config
from mmpretrain import get_model

import saim_mm
from saim_mm.checkpoint import zoo
from saim_mm.checkpoint.weights import (
    load_backbone_weights,
    load_renamed_state_dict,
    load_weights,
)
from saim_mm.datasets.images import find_images
from saim_mm.datasets.pixels import pixel_format
from saim_mm.models.saim import is_pretraining
from saim_mm.visualization.figures import load_images

#: Images of a folder.
AT_MOST = 8


def parse(doc, *options):
    """Arguments: IMAGE ..., --config, --checkpoint, --size and ``options``.

    An option is (name, arguments of ``add_argument``).
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'images', nargs='+', metavar='IMAGE', help='file or folder'
    )
    add_model(parser)
    parser.add_argument(
        '--size', type=int, nargs='+', help='in pixels: side, or height width'
    )
    for name, arguments in options:
        parser.add_argument(name, **arguments)
    args = parser.parse_args()
    check_model(parser, args)
    if args.size:
        if len(args.size) > 2 or min(args.size) < 1:
            parser.error(f'--size {args.size}: must be a side, or two')
        args.size = (args.size[0], args.size[-1])
    return args


def add_model(parser):
    """Options for the model, by default the one in the package."""
    parser.add_argument(
        '--config', help='that the checkpoint was trained with'
    )
    parser.add_argument(
        '--checkpoint',
        help='file, or saim_mm://NAME of the model zoo; without both a small '
        'model that comes with the package',
    )
    parser.add_argument(
        '--rgb',
        type=int,
        nargs=3,
        metavar=('R', 'G', 'B'),
        help='channels of the images that are shown as red, green and blue, '
        'from 0; default: the first three, or one as grey',
    )


def check_model(parser, args):
    """Check the arguments that :func:`add_model` adds; adds ``pixels``."""
    if not args.config and not args.checkpoint:
        args.config = f'{zoo.root()}/configs/pretrain/{zoo.DEMO}.py'
        args.checkpoint = zoo.SCHEME + zoo.DEMO
    for name in ('config', 'checkpoint'):
        path = getattr(args, name)
        if not path:
            parser.error(f'--{name}: needed too; or leave both out')
        try:
            found = zoo.resolve(path).is_file()
        except ValueError as error:
            parser.error(str(error))
        if not found:
            parser.error(f'--{name} {path}: no such file')
    args.pixels = pixel_format(Config.fromfile(args.config))
    try:
        args.pixels = replace(args.pixels, shown=tuple(args.rgb or ()))
    except ValueError as error:
        parser.error(f'--rgb: {error}')


def point(text):
    """The type of an option X,Y."""
    try:
        x, y = map(int, text.split(','))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f'{text!r}: must be X,Y in pixels'
        ) from None
    return x, y


def pretrained(args):
    """The pre-training model of the arguments: encoder, decoder and head."""
    cfg = Config.fromfile(args.config)
    if not is_pretraining(cfg):
        raise SystemExit(
            f'{args.config}: must be a pre-training config, of type SAIM, and '
            f'is of {cfg.model.type}. Only pre-training has the decoder that '
            'predicts; of this encoder attention.py and pca.py make pictures'
        )
    if args.size:
        cfg.model.backbone.img_size = args.size
    weights = load_renamed_state_dict(args.checkpoint)
    model = get_model(cfg, pretrained=False)
    parts = ('neck.', 'head.')[model.neck.depth == 0 :]
    missing = [
        part for part in parts if not any(n.startswith(part) for n in weights)
    ]
    if missing:
        raise SystemExit(
            f'{args.checkpoint}: holds no decoder and head ({missing}), which '
            'predict; give a checkpoint of pre-training. Of the encoder alone '
            'attention.py and pca.py make pictures'
        )
    load_weights(model, weights, f'checkpoint={args.checkpoint!r}')
    return model.eval()


def encoder(args):
    """The encoder of the arguments, of any config with a plain ViT."""
    backbone = Config.fromfile(args.config).model.get('backbone', {})
    known = inspect.signature(saim_mm.SAIMViT).parameters
    kept = {key: backbone[key] for key in known if key in backbone}
    kept['out_type'] = 'featmap'  # of any ViT
    kept.pop('min_match_ratio', None)  # no picture of random weights
    if args.size:
        kept['img_size'] = args.size
    vit = saim_mm.SAIMViT(**kept)
    load_backbone_weights(vit, args.checkpoint)
    return vit.eval()


def load(args, size):
    """Load the files among the images, and a few readable ones of each folder.

    Returns what ``load_images`` does.
    """
    images = []
    for path in map(Path, args.images):
        if path.is_file():
            try:
                images.append(load_images([str(path)], size, args.pixels))
            except ValueError as error:
                raise SystemExit(error) from error
            continue
        if not path.is_dir():
            raise SystemExit(f'{path}: no such file or folder')
        found = find_images(path)
        of_folder = []
        # Evenly through the folder, so that all its parts are seen.
        step = max(1, len(found) // AT_MOST)
        for file in [f for i in range(step) for f in found[i::step]]:
            try:
                of_folder.append(load_images([str(file)], size, args.pixels))
            except ValueError as error:
                print(f'unreadable image, skipped: {error}')
            if len(of_folder) == AT_MOST:
                break
        if not of_folder:
            raise SystemExit(f'{path}: no readable image in this folder')
        images += of_folder
    return torch.cat(images)


def save(figure, out):
    """Write a figure, and say where."""
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=150)
    print(f'wrote {out}')
