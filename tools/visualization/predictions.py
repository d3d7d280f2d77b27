"""Draw what a detector or a segmentation model finds.

    python tools/visualization/predictions.py CONFIG CHECKPOINT IMAGE ...
        [--out predictions] [--score 0.3] [--device cuda]
        [--sheet FILE [--title TITLE] [--beside TITLE CHECKPOINT ...]
        [--labels FOLDER]]

IMAGE is a file or a folder. The toolbox's own inferencer (mmdet's or mmseg's,
by the config's default_scope) draws each image into --out; from Python, use
that inferencer itself. Neither needs the data that the model was trained on:
the classes are in the checkpoint; one without the heads of CONFIG is refused.

--sheet puts them into one picture: a row for each image; columns with titles
for the images, for CHECKPOINT, for each --beside (another checkpoint of the
same config) and for --labels, the folder of the images' label maps (PNG, the
same names). Of a segmentation it says which colour is which class.
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.device import get_device
from PIL import Image

from saim_mm.datasets.images import find_images, read_image
from saim_mm.evaluation.inferencer import inferencer
from saim_mm.visualization.predictions import draw_columns, paint_labels


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument('images', nargs='+', metavar='IMAGE', type=Path)
    parser.add_argument('--out', default='predictions')
    parser.add_argument(
        '--score', type=float, default=0.3, help='least score of a detection'
    )
    parser.add_argument('--device', default=get_device())
    parser.add_argument('--sheet', type=Path)
    parser.add_argument('--title', default='prediction')
    parser.add_argument(
        '--beside',
        nargs=2,
        action='append',
        default=[],
        metavar=('TITLE', 'CHECKPOINT'),
    )
    parser.add_argument('--labels', type=Path, metavar='FOLDER')
    args = parser.parse_args()
    if not args.sheet and (args.beside or args.labels):
        parser.error('--beside and --labels need --sheet FILE')
    others = [checkpoint for _, checkpoint in args.beside]
    for path in (args.config, args.checkpoint, *args.images, *others):
        if not Path(path).exists():
            parser.error(f'{path}: no such file or folder')
    images = []
    for path in args.images:
        found = [path]
        if path.is_dir():
            found = find_images(path)
            if not found:
                parser.error(f'{path}: no image in this folder')
        images += map(str, found)
    same = [
        n for n, k in Counter(Path(x).name for x in images).items() if k > 1
    ]
    if same:
        parser.error(
            f'{len(same)} names stand in more than one folder, as {same[0]}, '
            'and pictures are called by them: give a folder at a time, or use '
            'saim predict'
        )
    args.images = images
    args.scope = Config.fromfile(args.config).get('default_scope')
    if args.scope not in ('mmdet', 'mmseg'):
        parser.error(
            f"CONFIG={args.config}: default_scope must be 'mmdet' or 'mmseg', "
            f'and is {args.scope!r}'
        )
    if args.labels:
        if args.scope != 'mmseg':
            parser.error('--labels: only for segmentation')
        args.labels = [
            args.labels / Path(image).with_suffix('.png').name
            for image in images
        ]
        for path in args.labels:
            if not path.is_file():
                parser.error(f'--labels: there is no {path}')
    return args


def predict(args, checkpoint, out):
    """Draw the images into a folder, if it is one.

    Returns:
        tuple: Of each image the picture with boxes, or the map of classes;
        and what the checkpoint says of its classes.
    """
    cfg = Config.fromfile(args.config)
    try:
        ask = inferencer(cfg, checkpoint, args.device)
    except (ValueError, OSError) as error:
        raise SystemExit(f'error: {error}') from error
    if args.scope == 'mmdet':
        found = ask(
            args.images,
            out_dir=out,
            return_vis=True,
            pred_score_thr=args.score,
            no_save_pred=not out,
        )['visualization']
    else:
        found = ask(args.images, out_dir=out)['predictions']
        if isinstance(found, np.ndarray):  # mmseg's of one image
            found = [found]
    return found, ask.model.dataset_meta


def main():
    args = parse()
    found, meta = predict(args, args.checkpoint, args.out)
    print(f'wrote {args.out}/vis')
    if not args.sheet:
        return
    columns = {args.title: found}
    for title, checkpoint in args.beside:
        columns[title] = predict(args, checkpoint, '')[0]
    if args.labels:
        columns['labels'] = [np.asarray(Image.open(x)) for x in args.labels]
    images = [read_image(path)[..., ::-1] for path in args.images]
    colors = {}
    try:
        if args.scope == 'mmseg':
            seen = set().union(
                *(
                    np.unique(x).tolist()
                    for maps in columns.values()
                    for x in maps
                )
            )
            palette = meta['palette']
            for number, name in enumerate(meta['classes']):
                if number in seen:
                    colors[name] = palette[number]
            columns = {
                title: [
                    paint_labels(image, labels, palette)
                    for image, labels in zip(images, maps)
                ]
                for title, maps in columns.items()
            }
        figure = draw_columns({'image': images, **columns}, colors)
    except ValueError as error:
        raise SystemExit(error) from error
    args.sheet.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.sheet, dpi=150)
    print(f'wrote {args.sheet}')


if __name__ == '__main__':
    main()
