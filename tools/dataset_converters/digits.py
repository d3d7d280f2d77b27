"""Write scikit-learn's scans of handwritten digits as image files.

    python tools/dataset_converters/digits.py [--out data/digits]

1,437 images in train/<digit>/, 360 in val/<digit>/, 8 x 8 pixels, and in
meta/train_labelled.txt a list of ten training images of each digit: the few
whose label fine-tuning may see.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

LABELLED = 10  # of each digit


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--out', default='data/digits', type=Path)
    out = parser.parse_args().out

    digits = load_digits()
    images = np.round(digits.images * 255 / 16).astype(np.uint8)
    parts = train_test_split(
        np.arange(len(images)),
        test_size=360,
        random_state=0,
        stratify=digits.target,
    )
    labelled = defaultdict(list)
    for part, indices in zip(('train', 'val'), parts):
        for i in indices:  # shuffled
            label = digits.target[i]
            name = f'{label}/{i:04d}.png'
            path = out / part / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[i]).save(path)
            if part == 'train' and len(labelled[label]) < LABELLED:
                labelled[label].append(f'{name} {label}\n')
    meta = out / 'meta' / 'train_labelled.txt'
    meta.parent.mkdir(exist_ok=True)
    meta.write_text(
        ''.join(line for label in sorted(labelled) for line in labelled[label])
    )
    print(f'wrote {len(images)} images to {out}')


if __name__ == '__main__':
    main()
