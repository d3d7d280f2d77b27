"""Folders of classes, and what is validated with."""

import numpy as np
from PIL import Image

from saim_mm.datasets.folders import split_classes


def test_every_fifth_of_each_class_is_for_validation(tmp_path):
    """In the order of the classes, of as many as have two digits."""
    numbers = {f'class {label:02}': 2 + label for label in range(12)}
    for name, number in numbers.items():
        (tmp_path / name).mkdir()
        for index in range(number):
            image = Image.fromarray(np.full((2, 2), index, np.uint8))
            image.save(tmp_path / name / f'{index:02}.png')
    (tmp_path / 'class 03/00.png').write_bytes(b'')  # does not count
    found = split_classes(tmp_path)
    assert found.names == list(numbers)
    train, val = [], []
    for label, (name, number) in enumerate(numbers.items()):
        indices = list(range(number))[label == 3 :]
        lines = [f'{name}/{index:02}.png {label}' for index in indices]
        val += lines[1::5]
        train += [line for line in lines if line not in lines[1::5]]
    assert (found.train, found.val) == (train, val)
    assert len(found.skipped) == 1
