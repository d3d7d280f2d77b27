"""Draw what a detector or a segmentation model finds.

    python tools/visualization/predictions.py CONFIG CHECKPOINT IMAGE ...
        [--out predictions] [--score 0.3] [--device cuda]

IMAGE is a file or a folder. The toolbox's own inferencer (mmdet's or mmseg's,
by the config's default_scope) draws each image into --out; from Python, use
that inferencer itself. The numbers of classes are those of the checkpoint's
own config; a checkpoint without the heads of CONFIG is refused.
"""

import argparse
from pathlib import Path

from mmengine.config import Config
from mmengine.device import get_device

from saim_mm.checkpoint.heads import fit_heads
from saim_mm.datasets.images import find_images


def main():
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
    args = parser.parse_args()
    for path in (args.config, args.checkpoint, *args.images):
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

    cfg = Config.fromfile(args.config)
    scope = cfg.get('default_scope')
    if scope in ('mmdet', 'mmseg'):
        try:
            fit_heads(cfg, args.checkpoint)
        except (ValueError, OSError) as error:
            parser.error(str(error))
    if scope == 'mmdet':
        from mmdet.apis import DetInferencer

        inferencer = DetInferencer(cfg, args.checkpoint, args.device)
        inferencer(
            images,
            out_dir=args.out,
            pred_score_thr=args.score,
            no_save_pred=False,
        )
    elif scope == 'mmseg':
        from mmseg.apis import MMSegInferencer

        inferencer = MMSegInferencer(cfg, args.checkpoint, device=args.device)
        inferencer(images, out_dir=args.out)
    else:
        parser.error(
            f"CONFIG={args.config}: default_scope must be 'mmdet' or 'mmseg', "
            f'and is {scope!r}'
        )
    print(f'wrote {args.out}/vis')


if __name__ == '__main__':
    main()
