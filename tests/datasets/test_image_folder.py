"""Broken files, dying processes and storage that stalls."""

import faulthandler
import io
import multiprocessing
import os
import re
import signal
import struct
import time
import warnings
import zlib
from collections import Counter
from pathlib import Path

import cv2
import mmengine.fileio as fileio
import numpy as np
import pytest
from helpers import config, train
from mmcv.transforms import BaseTransform
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, TRANSFORMS
from PIL import Image

from saim_mm import UnlabelledImages
from saim_mm.datasets import image_folder
from saim_mm.datasets.decoding import Kind, read_kind
from saim_mm.datasets.image_folder import TooManyUnreadable
from saim_mm.datasets.images import (
    MAX_PIXELS,
    check_pixels,
    read_file,
    read_image,
)
from saim_mm.datasets.sampler import SeededIndex
from saim_mm.datasets.workers import LoadingProcessDied


def chunk(kind, data):
    """A part of a PNG."""
    body = kind + data
    size = struct.pack('>I', len(data))
    return size + body + struct.pack('>I', zlib.crc32(body))


def bomb(width=30000, height=30000):
    """A PNG of that many pixels, black ones, in a few hundred kilobytes."""
    header = struct.pack('>IIBBBBB', width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(width // 8 + 1) * height, 9)
    return b'\x89PNG\r\n\x1a\n' + b''.join(
        chunk(kind, data)
        for kind, data in (
            (b'IHDR', header),
            (b'IDAT', rows),
            (b'IEND', b''),
        )
    )


def test_the_limit_is_the_one_of_the_docs():
    """Not Pillow's, which is smaller, nor OpenCV's, which is larger."""
    assert MAX_PIXELS == 2**28
    check_pixels(bomb(2**14, 2**14), None)
    with pytest.raises(OSError, match='268,451,840 pixels: more than 268,435'):
        check_pixels(bomb(2**14, 2**14 + 1), None)


def small(format):
    stream = io.BytesIO()
    Image.fromarray(np.full((20, 30), 7, np.uint8)).save(stream, format)
    return stream.getvalue()


def large_jpeg(width, height):
    """Its header; the pixels are those of a small one."""
    content = small('JPEG')
    at = content.index(b'\xff\xc0') + 5
    size = struct.pack('>HH', height, width)
    return content[:at] + size + content[at + 4 :]


@pytest.mark.parametrize('write', [bomb, large_jpeg])
def test_kinds_up_to_the_limit(write, tmp_path, monkeypatch):
    """By the header alone: Pillow refuses, or warns of, fewer pixels."""
    for name in ('imdecode', 'imdecodemulti'):
        monkeypatch.delattr(cv2, name)
    path = tmp_path / 'image'
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        path.write_bytes(write(2**14, 2**14))
        assert read_kind(path) == Kind(2**14, 2**14, 1)
        path.write_bytes(write(2**14, 2**14 + 1))
        with pytest.raises(OSError, match='268,451,840 pixels: more than'):
            read_kind(path)


def test_a_png_that_pillow_cannot_read(tmp_path):
    """It unpacks no text of more than a megabyte; OpenCV passes it by."""
    text = chunk(b'zTXt', b'Comment\0\0' + zlib.compress(bytes(2**20 + 1)))

    def with_text(content):
        return content[:33] + text + content[33:]  # behind the header

    path = tmp_path / 'a.png'
    path.write_bytes(with_text(small('PNG')))
    with pytest.raises(ValueError, match='too large'):
        Image.open(path)
    assert read_kind(path) == Kind(20, 30, 1)
    assert (read_image(path) == 7).all()
    path.write_bytes(with_text(bomb(2**14, 2**14 + 1)))
    for read in (read_kind, read_image):
        with pytest.raises((OSError, ValueError), match='decompression bomb'):
            read(path)


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


def test_too_many(images, tmp_path, monkeypatch):
    for number in range(30):
        (images / f'broken_{number}.jpg').write_bytes(b'')
    cfg = config(images, tmp_path / 'run', epochs=1)
    with pytest.raises(
        TooManyUnreadable, match='max_corrupt_ratio=0.1: 11 of 50'
    ):
        train(cfg)
    assert len(list(open(tmp_path / 'run/unreadable_files.txt'))) == 11
    cfg.train_dataloader.dataset.max_corrupt_ratio = 0.7
    train(cfg)
    # One of two processes meets half of the files.
    monkeypatch.setattr(image_folder, 'get_dist_info', lambda: (0, 2))
    with pytest.raises(
        TooManyUnreadable, match='max_corrupt_ratio=0.7: 18 of 50'
    ):
        train(cfg)
    with pytest.raises(
        ValueError, match='dataset.max_corrupt_ratio=2: must be'
    ):
        UnlabelledImages(data_root=str(images), max_corrupt_ratio=2)


@TRANSFORMS.register_module()
class DieAt(BaseTransform):
    """Ends its process, as a crash in a decoder or a lack of memory does."""

    def __init__(self, name, how):
        self.name, self.how = name, how

    def transform(self, results):
        if results['img_path'].endswith(self.name):
            if self.how == 'an error':
                raise RuntimeError('of a transform')
            if isinstance(self.how, str):
                os._exit(int(self.how))
            faulthandler.disable()  # pytest's would print a page
            os.kill(os.getpid(), self.how)
        return results


def die(images, tmp_path, how, workers=1, hooks=()):
    """What is said when a loading process ends at the eighth image."""
    name = sorted(path.name for path in images.iterdir())[7]
    cfg = config(images, tmp_path / 'run', epochs=1, workers=workers)
    if how is not None:
        cfg.train_dataloader.dataset.pipeline.insert(
            1, dict(type='DieAt', name=name, how=how)
        )
    with pytest.raises(RuntimeError) as error:
        train(cfg, hooks=hooks)
    return name, error.value


@pytest.mark.parametrize(
    'how, words',
    [
        (signal.SIGKILL, 'killed by signal: Killed'),
        (signal.SIGSEGV, 'killed by signal: Segmentation fault'),
        (signal.SIGBUS, 'killed by signal: Bus error'),
        (signal.SIGABRT, 'killed by signal: Aborted'),
        ('3', 'exit code 3'),
        ('0', ''),
    ],
)
def test_a_process_that_dies(how, words, images, tmp_path):
    name, error = die(images, tmp_path, how)
    assert isinstance(error, LoadingProcessDied)
    message = str(error)
    assert message.startswith('a loading process died') and words in message
    assert re.search(f'were reading: .*{name}', message)
    assert 'fewer num_workers' in message and '/dev/shm' in message
    assert '\n' not in message  # a last line


@HOOKS.register_module()
class KillLoading(Hook):
    """Kills a loading process that has nothing to do."""

    def after_train_iter(self, *args, **kwargs):
        time.sleep(0.5)  # for what it reads ahead
        processes = Path(f'/proc/self/task/{os.getpid()}/children')
        for number in map(int, processes.read_text().split()):
            if b'resource_tracker' not in (
                Path('/proc', str(number), 'cmdline').read_bytes()
            ):
                os.kill(number, signal.SIGKILL)


def test_an_idle_process_that_dies(images, tmp_path):
    """The error comes up in the middle of what the training does."""
    hooks = [dict(type='KillLoading')]
    _, error = die(images, tmp_path, None, workers=2, hooks=hooks)
    assert isinstance(error, LoadingProcessDied)
    assert 'killed by signal: Killed' in str(error)


def test_an_error_in_a_process_is_no_death(images, tmp_path):
    _, error = die(images, tmp_path, 'an error')
    assert not isinstance(error, LoadingProcessDied)
    assert 'of a transform' in str(error)


@pytest.mark.parametrize('length', [dict(epochs=2), dict(iters=3)])
def test_processes_end_with_their_training(images, tmp_path, length):
    """Not when what trained is garbage: in a circle they never do."""
    before = set(multiprocessing.active_children())
    runner = train(config(images, tmp_path, workers=2, **length))
    assert set(multiprocessing.active_children()) <= before
    assert runner.train_dataloader.num_workers == 2


def test_storage_that_fails_now_and_then(images, monkeypatch):
    path = str(sorted(images.iterdir())[0])
    get, errors, pauses = fileio.get, [OSError(5, 'Input/output error')], []
    monkeypatch.setattr(time, 'sleep', pauses.append)

    def failing(name, *args):
        if errors:
            raise errors.pop()
        return get(name, *args)

    monkeypatch.setattr(fileio, 'get', failing)
    assert read_file(path) == get(path)
    assert not errors and pauses == [1]
    pauses.clear()
    errors += [OSError(5, 'Input/output error')] * 2
    with pytest.raises(OSError, match='Input/output'):
        read_file(path)
    assert not errors and pauses == [1]
    with pytest.raises(FileNotFoundError):
        read_file('gone.jpg')
    assert pauses == [1]


def test_what_is_broken_is_opened_once(images, tmp_path, monkeypatch):
    (images / 'empty.jpg').write_bytes(b'')
    get, opened = fileio.get, Counter()

    def count(name, *args):
        opened[Path(name).name] += 1
        return get(name, *args)

    monkeypatch.setattr(fileio, 'get', count)
    cfg = config(images, tmp_path / 'run', epochs=3)
    cfg.train_dataloader.drop_last = False
    train(cfg)
    assert opened.pop('empty.jpg') == 1
    assert len(opened) == 20 and min(opened.values()) >= 3


def test_a_pipe_in_place_of_a_file(images):
    """Reading it would never end."""
    data = UnlabelledImages(
        data_root=str(images),
        pipeline=[dict(type='LoadRandomResizedCrop', scale=16)],
    )
    path = Path(data.get_data_info(3)['img_path'])
    path.unlink()
    os.mkfifo(path)
    assert data[SeededIndex(3, (0, 0))]['img_path'] != str(path)
    assert data.unreadable.tolist() == [0, 0, 0, 1] + [0] * 16
    with pytest.raises(OSError, match='not a regular file'):
        read_file(str(path))


def test_a_stand_in_is_the_same_the_second_time(images):
    """So that a resumed training, which tries it again, goes on exactly."""
    (images / '0_0.jpg').write_bytes(b'')
    data = UnlabelledImages(
        data_root=str(images),
        pipeline=[dict(type='LoadRandomResizedCrop', scale=16)],
    )
    broken = [i['img_path'] for i in data.load_data_list()].index(
        str(images / '0_0.jpg')
    )
    first, second = (data[SeededIndex(broken, (3, 4))] for _ in range(2))
    assert first['img_path'] == second['img_path']
    assert np.array_equal(first['img'], second['img'])


def test_links_without_an_end_and_names_of_any_bytes(images, tmp_path):
    """A training over them; each is named once, in a line of its own."""
    good = len(list(images.iterdir()))
    (images / 'self.jpg').symlink_to('self.jpg')
    (images / 'gone.jpg').symlink_to('nowhere.jpg')
    (images / 'up').symlink_to('..')  # this folder is in there
    for name, other in (('a', 'b'), ('b', 'a')):
        (images / name).mkdir()
        (images / name / 'other').symlink_to(images / other)
    forged = b'x.jpg\tfine\n/etc/passwd \xff.jpg'
    Path(os.fsdecode(os.fsencode(images) + b'/' + forged)).parent.mkdir(
        parents=True
    )
    Path(os.fsdecode(os.fsencode(images) + b'/' + forged)).write_bytes(b'no')
    cfg = config(images, tmp_path / 'run', epochs=2)
    cfg.train_dataloader.dataset.max_corrupt_ratio = 1.0
    cfg.train_dataloader.drop_last = False
    dataset = train(cfg).train_dataloader.dataset
    assert len(dataset) == good + 3
    lines = (tmp_path / 'run/unreadable_files.txt').read_text().splitlines()
    names = sorted(line.split('\t')[0] for line in lines)
    assert names == [
        str(images / 'gone.jpg'),
        str(images / 'self.jpg'),
        str(images) + r'/x.jpg\tfine\n/etc/passwd \udcff.jpg',
    ]
    assert all(len(line.split('\t')) == 2 for line in lines)
