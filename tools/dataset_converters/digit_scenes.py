"""Write scenes of handwritten digits on photographs, with exact masks.

    python tools/dataset_converters/digit_scenes.py [--out data/digit_scenes]

scikit-learn's scans, enlarged and coloured, on pieces of its two photographs:
train/ (600 images), val/ (150), 160 x 160 pixels, and train.json, val.json in
COCO's format with a box, a mask and a class for each digit. val/ has other
scans and other pieces of the photographs.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as masks
from sklearn.datasets import load_digits, load_sample_images

SIZE = 160
DIGITS = (3, 6)  # in a scene
SIDE = (28, 56)  # of a digit, in pixels
VISIBLE = 0.4  # a digit that others hide by more is no object


def draw(random, photo, scans, labels):
    """A scene: its pixels, and (label, mask) of every digit."""
    y, x = (random.integers(n - SIZE + 1) for n in photo.shape[:2])
    pixels = photo[y : y + SIZE, x : x + SIZE].astype(np.float32)
    digits = []
    for index in random.choice(
        len(scans), random.integers(DIGITS[0], DIGITS[1] + 1), replace=False
    ):
        side = int(random.integers(SIDE[0], SIDE[1] + 1))
        scan = Image.fromarray(np.uint8(scans[index] * 255 / 16))
        ink = np.asarray(scan.resize((side, side), Image.BICUBIC)) / 255
        y, x = random.integers(SIZE - side + 1, size=2)
        place = np.zeros((SIZE, SIZE), np.float32)
        place[y : y + side, x : x + side] = ink
        color = random.integers(256, size=3)
        pixels += place[..., None] * (color - pixels)
        mask = place > 0.5
        # The newest digit hides what is below it.
        digits = [(n, m & ~mask, area) for n, m, area in digits]
        digits.append((int(labels[index]), mask, mask.sum()))
    return np.uint8(pixels.clip(0, 255)), [
        (n, m) for n, m, area in digits if m.sum() > VISIBLE * area
    ]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--out', default='data/digit_scenes', type=Path)
    out = parser.parse_args().out

    random = np.random.default_rng(0)
    digits = load_digits()
    photos = load_sample_images().images
    cut, border = len(digits.images) * 4 // 5, photos[0].shape[1] * 2 // 3
    parts = {
        'train': (600, slice(0, cut), slice(0, border)),
        'val': (150, slice(cut, None), slice(border, None)),
    }
    for split, (number, chosen, columns) in parts.items():
        (out / split).mkdir(parents=True, exist_ok=True)
        images, annotations = [], []
        for i in range(1, number + 1):
            pixels, objects = draw(
                random,
                photos[random.integers(len(photos))][:, columns],
                digits.images[chosen],
                digits.target[chosen],
            )
            name = f'{i:04d}.jpg'
            Image.fromarray(pixels).save(out / split / name, quality=95)
            images.append(dict(id=i, file_name=name, width=SIZE, height=SIZE))
            for label, mask in objects:
                code = masks.encode(np.asfortranarray(mask, np.uint8))
                annotations.append(
                    dict(
                        id=len(annotations) + 1,
                        image_id=i,
                        category_id=label + 1,
                        bbox=masks.toBbox(code).tolist(),
                        area=int(mask.sum()),
                        iscrowd=0,
                        segmentation=dict(
                            size=code['size'], counts=code['counts'].decode()
                        ),
                    )
                )
        categories = [
            dict(id=n + 1, name=str(n), supercategory='digit')
            for n in range(10)
        ]
        (out / f'{split}.json').write_text(
            json.dumps(
                dict(
                    images=images,
                    annotations=annotations,
                    categories=categories,
                )
            )
        )
        print(f'{out / split}: {number} images, {len(annotations)} digits')


if __name__ == '__main__':
    main()
