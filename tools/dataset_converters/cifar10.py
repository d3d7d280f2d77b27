"""Download CIFAR-10 and write it as class folders.

    python tools/dataset_converters/cifar10.py [--out data/cifar10]

50,000 images in train/<class>/, 10,000 in test/<class>/, 32 x 32 pixels.
torchvision downloads the archive (170 MB) to OUT/archive, or finds it there.
"""

import argparse
from pathlib import Path

from class_folders import write_classes
from torchvision.datasets import CIFAR10


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--out', default='data/cifar10', type=Path)
    out = parser.parse_args().out

    for part in ('train', 'test'):
        dataset = CIFAR10(
            out / 'archive', train=part == 'train', download=True
        )
        write_classes(dataset, out / part)


if __name__ == '__main__':
    main()
