"""Download Fashion-MNIST and write it as class folders.

    python tools/dataset_converters/fashion_mnist.py [--out data/fashion_mnist]

60,000 images in train/<class>/, 10,000 in val/<class>/, 28 x 28 pixels, grey,
as `saim` takes them. torchvision downloads them (30 MB) to OUT/archive, or
finds its four files, unpacked, in OUT/archive/FashionMNIST/raw (Debian's
dataset-fashion-mnist has them).
"""

import argparse
from pathlib import Path

from class_folders import write_classes
from torchvision.datasets import FashionMNIST


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--out', default='data/fashion_mnist', type=Path)
    out = parser.parse_args().out

    for part in ('train', 'val'):
        dataset = FashionMNIST(
            out / 'archive', train=part == 'train', download=True
        )
        write_classes(dataset, out / part)


if __name__ == '__main__':
    main()
