"""Draw what a pre-trained SAIM predicts (Fig. 3 of the paper).

    python tools/visualization/reconstruction.py CONFIG CHECKPOINT IMAGE ...
        [--out reconstruction.png] [--seed 0]

IMAGE is a file or a folder; of a folder, eight images are drawn.
"""

import argparse
from pathlib import Path

import torch
from mmengine.config import Config
from mmpretrain import get_model

import saim_mm  # noqa: F401
from saim_mm.data import EXTENSIONS
from saim_mm.visualization import draw_reconstructions, load_images


def find_images(paths, size, at_most=8):
    """Load the files among ``paths``, and a few readable ones of each folder.

    Returns a tensor (B, 3, H, W), pixels from 0 to 255.
    """
    images = []
    for path in map(Path, paths):
        if path.is_file():
            try:
                images.append(load_images([str(path)], size))
            except ValueError as error:
                raise SystemExit(error) from error
            continue
        if not path.is_dir():
            raise SystemExit(f'{path}: no such file or folder')
        found = sorted(
            p for p in path.rglob('*') if p.suffix.lower() in EXTENSIONS
        )
        of_folder = []
        # Evenly through the folder, so that all its parts are seen.
        step = max(1, len(found) // at_most)
        for file in [f for i in range(step) for f in found[i::step]]:
            try:
                of_folder.append(load_images([str(file)], size))
            except ValueError as error:
                print(f'unreadable image, skipped: {error}')
            if len(of_folder) == at_most:
                break
        if not of_folder:
            raise SystemExit(f'{path}: no readable image in this folder')
        images += of_folder
    return torch.cat(images)


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

    model = get_model(Config.fromfile(args.config), args.checkpoint)
    model.eval()
    torch.manual_seed(args.seed)
    images = find_images(args.images, model.backbone.img_size)
    draw_reconstructions(model, images).savefig(args.out, dpi=150)
    print(f'wrote {args.out}: {len(images)} images')


if __name__ == '__main__':
    main()
