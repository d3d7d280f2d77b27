"""Tools that write other people's data sets as folders, on files like theirs.

(Those of detection and segmentation are tested where these are.)
"""

import struct
import sys

import numpy as np
from helpers import ROOT, call
from PIL import Image

CONVERTERS = ROOT / 'tools/dataset_converters'


def test_fashion_mnist(tmp_path):
    raw = tmp_path / 'archive/FashionMNIST/raw'
    raw.mkdir(parents=True)
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (12, 28, 28), np.uint8)
    labels = np.arange(12, dtype=np.uint8) % 10
    for part in ('train', 't10k'):
        images = struct.pack('>4i', 0x803, 12, 28, 28) + pixels.tobytes()
        (raw / f'{part}-images-idx3-ubyte').write_bytes(images)
        numbers = struct.pack('>2i', 0x801, 12) + labels.tobytes()
        (raw / f'{part}-labels-idx1-ubyte').write_bytes(numbers)
    script = CONVERTERS / 'fashion_mnist.py'
    code, output = call(sys.executable, script, '--out', tmp_path)
    assert code == 0, output
    for part in ('train', 'val'):
        assert len(list((tmp_path / part).glob('*/*.png'))) == 12
        # The classes are numbered in torchvision's order, folders by name.
        image = Image.open(tmp_path / part / 'T-shirt-top/0001.png')
        assert np.array_equal(np.asarray(image), pixels[10])
