"""Tools that write other people's data sets as folders, on files like theirs.

(Those of detection and segmentation are tested where these are.)
"""

import pickle
import runpy
import struct
import sys

import numpy as np
from helpers import ROOT, call
from PIL import Image
from torchvision.datasets import CIFAR10, cifar

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


def test_cifar10(tmp_path, monkeypatch):
    """An archive as Toronto's, which the script would download."""
    folder = tmp_path / 'archive/cifar-10-batches-py'
    folder.mkdir(parents=True)
    names = [f'class {number}' for number in range(10)]
    pixels = np.random.default_rng(0).integers(0, 256, (10, 3072), np.uint8)
    content = {'data': pixels, 'labels': [*range(9, -1, -1)]}
    batches = [f'data_batch_{number}' for number in range(1, 6)]
    for name in (*batches, 'test_batch'):
        (folder / name).write_bytes(pickle.dumps(content))
    (folder / 'batches.meta').write_bytes(pickle.dumps({'label_names': names}))
    # Its files are known by their digests.
    monkeypatch.setattr(CIFAR10, '_check_integrity', lambda self: True)
    monkeypatch.setattr(cifar, 'check_integrity', lambda *_: True)
    script = CONVERTERS / 'cifar10.py'
    monkeypatch.setattr(sys, 'argv', [str(script), '--out', str(tmp_path)])
    monkeypatch.syspath_prepend(CONVERTERS)
    runpy.run_path(str(script), run_name='__main__')
    for part, number in (('train', 50), ('test', 10)):
        found = sorted((tmp_path / part).glob('*/*'))
        assert len(found) == number
        assert len({path.parent.name for path in found}) == 10
    [path] = (tmp_path / 'test').glob('*2/*')  # the image of label 2
    expected = pixels[7].reshape(3, 32, 32).transpose(1, 2, 0)
    assert np.array_equal(np.asarray(Image.open(path)), expected)
