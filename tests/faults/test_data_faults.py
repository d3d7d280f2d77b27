"""Broken files, dying processes and storage that stalls."""

import os
import signal
import struct
import time
import zlib

import mmengine.fileio as fileio
import pytest
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS
from test_resume import config, train

from saim_mm import UnlabelledImages, files
from saim_mm.data import TooManyUnreadable


def bomb():
    """A PNG of 30,000 x 30,000 pixels, in a few hundred kilobytes."""

    def chunk(kind, data):
        body = kind + data
        size = struct.pack('>I', len(data))
        return size + body + struct.pack('>I', zlib.crc32(body))

    header = struct.pack('>IIBBBBB', 30000, 30000, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(3751) * 30000, 9)
    return b'\x89PNG\r\n\x1a\n' + b''.join(
        chunk(kind, data)
        for kind, data in (
            (b'IHDR', header),
            (b'IDAT', rows),
            (b'IEND', b''),
        )
    )


@pytest.fixture
def images(photos, tmp_path):
    folder = tmp_path / 'images'
    folder.mkdir()
    for path in sorted(photos.iterdir())[:20]:
        (folder / path.name).symlink_to(path)
    return folder


BROKEN = {
    'zero.jpg': b'',
    'half.jpg': b'\xff\xd8\xff\xe0\x00\x10JFIF',
    'text.png': b'not an image',
    'web.webp': b'RIFF\x00\x00\x00\x00WEBPVP8 ',
    'bomb.png': bomb(),
}


def test_broken_files_are_listed_once(images, tmp_path):
    """With two loading processes, over several passes and a second start."""
    for name, content in BROKEN.items():
        (images / name).write_bytes(content)
    # A name that lies is no fault.
    (images / 'really_a_jpeg.png').symlink_to(sorted(images.glob('0*'))[0])
    cfg = config(images, tmp_path / 'run', epochs=2, workers=2)
    cfg.train_dataloader.drop_last = False
    train(cfg)
    cfg.train_cfg.max_epochs = 3
    train(cfg, resume=True)
    lines = (tmp_path / 'run/unreadable_files.txt').read_text().splitlines()
    found = dict(line.split('\t') for line in lines)
    assert sorted(found) == sorted(str(images / name) for name in BROKEN)
    assert len(lines) == len(BROKEN)
    assert 'decompression bomb' in found[str(images / 'bomb.png')]
    assert 'an empty file' in found[str(images / 'zero.jpg')]


def test_too_many(images, tmp_path):
    for number in range(30):
        (images / f'broken_{number}.jpg').write_bytes(b'')
    cfg = config(images, tmp_path / 'run', epochs=1)
    with pytest.raises(
        TooManyUnreadable, match='max_unreadable=0.1: 11 of 50'
    ):
        train(cfg)
    assert len(list(open(tmp_path / 'run/unreadable_files.txt'))) == 11
    cfg.train_dataloader.dataset.max_unreadable = 0.7
    train(cfg)
    with pytest.raises(ValueError, match='dataset.max_unreadable=2: must be'):
        UnlabelledImages(data_root=str(images), max_unreadable=2)


@TRANSFORMS.register_module()
class DieAt(BaseTransform):
    """Kills its process, as a crash in a decoder or a lack of memory does."""

    def __init__(self, name):
        self.name = name

    def transform(self, results):
        if results['img_path'].endswith(self.name):
            os.kill(os.getpid(), signal.SIGKILL)
        return results


def test_a_process_that_dies(images, tmp_path):
    name = sorted(path.name for path in images.iterdir())[7]
    cfg = config(images, tmp_path / 'run', epochs=1, workers=1)
    cfg.train_dataloader.dataset.pipeline.insert(
        0, dict(type='DieAt', name=name)
    )
    with pytest.raises(RuntimeError, match=f'were reading: .*{name}'):
        train(cfg)


def test_storage_that_stalls(images, monkeypatch):
    """Given up after the timeout, and read again."""
    monkeypatch.setattr(files, 'PAUSES', (0.0, 0.0))
    path = str(sorted(images.iterdir())[0])
    get, stalls = fileio.get, []

    def stalling(name, *args):
        if len(stalls) < number:
            stalls.append(name)
            time.sleep(3)
        return get(name, *args)

    monkeypatch.setattr(fileio, 'get', stalling)
    number = 2
    reader = files.Reader(0.2)
    assert reader(path) == get(path)
    assert stalls == [path, path]
    stalls.clear()
    number = 3
    with pytest.raises(TimeoutError, match='no answer of the file system'):
        reader(path)
    assert reader(path) == get(path)


def test_storage_that_fails_now_and_then(images, monkeypatch):
    monkeypatch.setattr(files, 'PAUSES', (0.0, 0.0))
    path = str(sorted(images.iterdir())[0])
    get, errors = fileio.get, [OSError(5, 'Input/output error')] * 2

    def failing(name, *args):
        if errors:
            raise errors.pop()
        return get(name, *args)

    monkeypatch.setattr(fileio, 'get', failing)
    reader = files.Reader(10)
    assert reader(path) == get(path) and not errors
    start = time.time()
    with pytest.raises(FileNotFoundError):
        reader('gone.jpg')
    assert time.time() - start < 5
