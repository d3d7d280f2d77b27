"""Draw what a pre-trained SAIM predicts (Fig. 3 of the paper).

    python tools/visualization/reconstruction.py CONFIG CHECKPOINT IMAGE ...
        [--out reconstruction.png] [--seed 0]

IMAGE is a file or a folder; of a folder, the first eight images are drawn.
"""

import argparse
from pathlib import Path

import torch
from mmengine.config import Config
from mmpretrain import get_model

import saim_mm  # noqa: F401
from saim_mm.data import EXTENSIONS
from saim_mm.visualization import draw_reconstructions, load_images


def find_images(paths, at_most=8):
    """The files among ``paths``, and the first few of each folder."""
    files = []
    for path in map(Path, paths):
        if path.is_dir():
            found = sorted(
                p for p in path.rglob('*') if p.suffix.lower() in EXTENSIONS
            )
            if not found:
                raise SystemExit(f'{path}: no image in this folder')
            # Evenly through the folder, so that all classes are seen.
            files += found[:: max(1, len(found) // at_most)][:at_most]
        elif path.is_file():
            files.append(path)
        else:
            raise SystemExit(f'{path}: no such file or folder')
    return files


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', help='pre-training config')
    parser.add_argument('checkpoint', help='what it trained')
    parser.add_argument('images', nargs='+', help='files or folders')
    parser.add_argument('--out', default='reconstruction.png')
    parser.add_argument('--seed', type=int, default=0, help='of the order')
    args = parser.parse_args()
    for path in (args.config, args.checkpoint):
        if not Path(path).is_file():
            raise SystemExit(f'{path}: no such file')

    files = find_images(args.images)
    model = get_model(Config.fromfile(args.config), args.checkpoint)
    model.eval()
    torch.manual_seed(args.seed)
    images = load_images([str(f) for f in files], model.backbone.img_size)
    draw_reconstructions(model, images).savefig(args.out, dpi=150)
    print(f'wrote {args.out}: {len(files)} images')


if __name__ == '__main__':
    main()
