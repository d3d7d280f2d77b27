"""Boxes in Pascal VOC's format to COCO's, one folder for each split.

    python tools/dataset_converters/voc.py VOC_ROOT OUT

VOC_ROOT has JPEGImages/, Annotations/ and ImageSets/Main/<split>.txt. OUT gets
<split>/ with the images and <split>.json, as the configs for one's own data
want them. The classes are those of all annotations, in alphabetical order.
BCCD, 364 microscope images of blood cells:

    git clone https://github.com/Shenggan/BCCD_Dataset
    python tools/dataset_converters/voc.py BCCD_Dataset/BCCD data/bccd
"""

import argparse
import json
import shutil
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

SPLITS = ('train', 'val', 'test')


def read(path):
    """Size of an image, and (class, difficult, corners) of its objects."""
    try:
        root = ElementTree.parse(path).getroot()
        size = [int(root.findtext(f'size/{k}')) for k in ('width', 'height')]
        objects = []
        for item in root.iter('object'):
            corners = [
                float(item.findtext(f'bndbox/{k}'))
                for k in ('xmin', 'ymin', 'xmax', 'ymax')
            ]
            difficult = item.findtext('difficult') == '1'
            objects.append((item.findtext('name'), difficult, corners))
    except (OSError, TypeError, ValueError, ElementTree.ParseError) as error:
        sys.exit(f'{path}: must be an annotation of Pascal VOC ({error})')
    return size, objects


def convert(root, out, split, names, classes):
    """Write a split; return its numbers of images, boxes, dropped boxes."""
    images, annotations, dropped = [], [], 0
    (out / split).mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names, start=1):
        image = root / 'JPEGImages' / f'{name}.jpg'
        if not image.is_file():
            sys.exit(f'{image}: no such file, though {split}.txt names it')
        shutil.copy(image, out / split)
        (width, height), objects = read(root / 'Annotations' / f'{name}.xml')
        images.append(
            dict(id=number, file_name=image.name, width=width, height=height)
        )
        for label, difficult, (x1, y1, x2, y2) in objects:
            # VOC counts pixels from 1, and x2, y2 are inside the box.
            x1, y1 = max(x1 - 1, 0), max(y1 - 1, 0)
            x2, y2 = min(x2, width), min(y2, height)
            if x2 - x1 <= 1 or y2 - y1 <= 1:
                dropped += 1
                continue
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=number,
                    category_id=classes.index(label) + 1,
                    bbox=[x1, y1, x2 - x1, y2 - y1],
                    area=(x2 - x1) * (y2 - y1),
                    iscrowd=int(difficult),
                )
            )
    categories = [
        dict(id=i, name=n, supercategory='none')
        for i, n in enumerate(classes, start=1)
    ]
    content = dict(
        images=images, annotations=annotations, categories=categories
    )
    (out / f'{split}.json').write_text(json.dumps(content))
    return len(images), len(annotations), dropped


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('root', metavar='VOC_ROOT', type=Path)
    parser.add_argument('out', metavar='OUT', type=Path)
    args = parser.parse_args()
    lists = {
        split: args.root / 'ImageSets' / 'Main' / f'{split}.txt'
        for split in SPLITS
    }
    lists = {
        split: p.read_text().split()
        for split, p in lists.items()
        if p.is_file()
    }
    if not lists:
        parser.error(
            f'VOC_ROOT={args.root}: must have ImageSets/Main/ with one of '
            f'{", ".join(f"{s}.txt" for s in SPLITS)}'
        )
    classes = sorted(
        {
            label
            for names in lists.values()
            for name in names
            for label, *_ in read(args.root / 'Annotations' / f'{name}.xml')[1]
        }
    )
    for split, names in lists.items():
        images, boxes, dropped = convert(
            args.root, args.out, split, names, classes
        )
        print(
            f'{args.out / split}.json: {images} images, {boxes} boxes of '
            f'{len(classes)} classes ({", ".join(classes)}); {dropped} boxes '
            'of a pixel or less left out'
        )


if __name__ == '__main__':
    main()
