"""Features of many images: they go on, and which are alike."""

import csv
import errno
import json
import os
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from helpers import FORK, bright_and_dark
from PIL import Image
from safetensors import safe_open
from scipy.sparse.csgraph import connected_components

from saim_mm import apis
from saim_mm.datasets.pixels import RGB, PixelFormat
from saim_mm.evaluation import embed, similarity
from saim_mm.evaluation.embed import (
    embed_images,
    files_of,
    parts_of,
    save_features,
)
from saim_mm.evaluation.similarity import check_similar, patterns, same
from saim_mm.visualization.figures import load_images
from saim_mm.visualization.tsne import squares, tsne

NAME = 'saim_vit-mini-p4'


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp('weights') / 'mini.pth'
    torch.manual_seed(0)
    torch.save(apis.get_model(NAME).state_dict(), path)
    return path


@pytest.fixture
def images(tmp_path, monkeypatch):
    """25 images, one of them broken; parts are of 8."""
    folder = tmp_path / 'images'
    folder.mkdir()
    bright_and_dark(folder, 12, 28, 30)
    (folder / 'bright/05b.png').write_bytes(b'no image')
    monkeypatch.setattr(embed, 'PART', 8)
    return folder


@pytest.fixture
def looked_at(monkeypatch):
    """The images that were read."""
    names = []
    read = apis.read_pixels

    def note(path, pixels):
        names.append(os.path.basename(path))
        return read(path, pixels)

    monkeypatch.setattr(apis, 'read_pixels', note)
    return names


def stop_after(number):
    seen = 0

    def done(more):
        nonlocal seen
        seen += more
        if seen >= number:
            raise KeyboardInterrupt

    return done


def features(out):
    return np.load(out)['features'], np.load(out)['names'].tolist()


def write(paths, out, *arguments, **keywords):
    """As the command does."""
    with parts_of(out) as folder:
        found, _ = embed_images(
            files_of(paths), folder, *arguments, **keywords
        )
        save_features(found.names, found.features.numpy(), out)
    return found


def test_goes_on(images, weights, tmp_path, looked_at):
    """To the same bits, and reads nothing twice but what it could not."""
    whole = tmp_path / 'whole.npz'
    found = write([images], whole, NAME, weights, batch_size=4)
    names = list(looked_at)
    assert len(names) == 25 and len(found.names) == 24
    assert [os.path.basename(x) for x, _ in found.skipped] == ['05b.png']

    out = tmp_path / 'out.npz'
    looked_at.clear()
    with pytest.raises(KeyboardInterrupt):
        write([images], out, NAME, weights, batch_size=4, done=stop_after(23))
    assert not out.exists() and looked_at == names[:24]
    mine = tmp_path / 'out.npz.parts/of_mine.txt'
    mine.write_text('precious')
    looked_at.clear()
    done = []
    again = write([images], out, NAME, weights, batch_size=4, done=done.append)
    # Parts were of 11 and 8, in batches of 4, one of them of 3.
    assert looked_at == ['05b.png', *names[20:]]
    assert sum(done) == 25
    for one, other in zip(features(out), features(whole)):
        assert np.array_equal(one, other)
    assert again.names == found.names and again.skipped == found.skipped
    assert sorted(x.name for x in tmp_path.iterdir()) == [
        'images', 'out.npz', 'out.npz.parts', 'whole.npz'
    ]  # fmt: skip
    assert list((tmp_path / 'out.npz.parts').iterdir()) == [mine]


@pytest.mark.parametrize(
    ('change', 'expected'),
    [
        ('file', 25 - 16 + 1),
        ('size alone', 25 - 16 + 1),
        ('weights', 25),
        ('readout', 25),
        ('damage', 25),
        ('moved', 25),
        ('linked', 25),
        ('current folder', 25 - 16),
        ('one more', 25 - 16 + 1),
        ('one less', 25 - 16),
        ('mended', 25 - 19),
    ],
)
def test_what_has_changed_is_not_taken(
    change, expected, images, weights, tmp_path, looked_at, monkeypatch
):
    """Not one feature of before, nor a name; and no more is made anew."""
    out, settings = tmp_path / 'out.npz', [NAME, weights]
    given, readout = images, 'patch_mean'
    broken = images / 'bright/05b.png'
    broken.rename(images / 'bright/00b.png')
    broken = images / 'bright/00b.png'
    if change != 'mended':
        bytes_ = (images / 'dark/03.png').read_bytes()
        broken.write_bytes(bytes_)
    if change == 'current folder':
        monkeypatch.chdir(images)
        given = Path('.')
    with pytest.raises(KeyboardInterrupt):
        write([given], out, *settings, batch_size=4, done=stop_after(17))
    parts = list((tmp_path / 'out.npz.parts').glob('features-*'))
    assert len(parts) == 2
    file = images / 'bright/00.png'
    if change == 'file':
        before = file.stat()
        Image.fromarray(255 - np.asarray(Image.open(file))).save(file)
        assert file.stat().st_mtime_ns != before.st_mtime_ns
    elif change == 'size alone':  # and the time is set back
        before = file.stat()
        Image.fromarray(255 - np.asarray(Image.open(file))).save(file)
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert file.stat().st_mtime_ns == before.st_mtime_ns
    elif change == 'weights':
        other = tmp_path / 'other.pth'
        state = torch.load(weights)
        name = next(n for n in state if n.endswith('ffn.layers.1.bias'))
        state[name][0] += 1e-3
        torch.save(state, other)
        settings[1] = other
    elif change == 'readout':
        readout = 'cls_token'
    elif change == 'damage':
        for part in parts:
            part.write_bytes(part.read_bytes()[:-1])
    elif change == 'moved':
        given = shutil.move(images, tmp_path / 'moved')
    elif change == 'linked':
        given = tmp_path / 'link'
        given.symlink_to(images)
    elif change == 'current folder':
        monkeypatch.chdir(tmp_path)
        given = Path('images')
    elif change == 'one more':
        shutil.copy(file, images / 'bright/00a.png')
    elif change == 'one less':
        file.unlink()
    else:  # was broken
        broken.write_bytes(file.read_bytes())
    looked_at.clear()
    found = write([given], out, *settings, readout, batch_size=4)
    assert len(looked_at) == expected, looked_at
    anew = write(
        [given], tmp_path / 'anew.npz', *settings, readout, batch_size=4
    )
    assert found.names == anew.names and not found.skipped
    torch.testing.assert_close(
        found.features, anew.features, rtol=0, atol=1e-6
    )


def test_a_config_that_inherits(images, weights, tmp_path):
    """What changes below it counts."""
    base, top = tmp_path / 'base.py', tmp_path / 'top.py'
    text = (
        "model = dict(backbone=dict(type='SAIMViT', arch='saim-mini', "
        'img_size=SIZE, patch_size=4))'
    )
    base.write_text(text.replace('SIZE', '32'))
    top.write_text("_base_ = ['base.py']")
    out = tmp_path / 'out.npz'
    with pytest.raises(KeyboardInterrupt):
        write([images], out, top, weights, done=stop_after(25))
    base.write_text(text.replace('SIZE', '16'))
    # The embedding of positions is interpolated: the same weights, but one.
    found = write([images], out, top, weights)
    anew = write([images], tmp_path / 'anew.npz', top, weights)
    assert torch.equal(found.features, anew.features)


def test_two_at_once(images, weights, tmp_path):
    """The second is refused, and the first goes on."""
    out = tmp_path / 'out.npz'
    with parts_of(out) as folder:
        with pytest.raises(RuntimeError, match='is at work there'):
            in_another_process(write, [images], out, NAME, weights)
        found, _ = embed_images(files_of([images]), folder, NAME, weights)
    assert len(found.names) == 24
    assert [x.name for x in tmp_path.iterdir()] == ['images']


def in_another_process(function, *arguments):
    """Locks are between processes."""
    with ProcessPoolExecutor(1, mp_context=FORK) as pool:
        return pool.submit(function, *arguments).result()


def test_a_full_disk(images, weights, tmp_path, monkeypatch):
    """One line; and nothing of OUT, nor a half of it."""

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, 'No space left on device')

    out = tmp_path / 'out.npz'
    with monkeypatch.context() as patch:
        patch.setattr(embed.np, 'savez', full)
        with pytest.raises(OSError, match=f"^out='{out}': cannot be written"):
            write([images], out, NAME, weights)
    assert sorted(x.name for x in tmp_path.iterdir()) == [
        'images', 'out.npz.parts'
    ]  # fmt: skip
    write([images], out, NAME, weights)
    assert len(features(out)[1]) == 24


def test_nothing_that_can_be_read(weights, tmp_path):
    (tmp_path / 'images').mkdir()
    (tmp_path / 'images/a.jpg').write_bytes(b'no image')
    with pytest.raises(ValueError, match='none of them can .*a.jpg'):
        write([tmp_path / 'images'], tmp_path / 'f.npz', NAME, weights)
    assert [x.name for x in tmp_path.iterdir()] == ['images']


@pytest.mark.skipif(sys.platform != 'linux', reason='names are bytes there')
@pytest.mark.parametrize('suffix', ['csv', 'npz', 'safetensors'])
def test_any_name(suffix, images, weights, tmp_path):
    """Not UTF-8, with a line break and a comma."""
    folder = tmp_path / 'named'
    folder.mkdir()
    name = b'\xff,\n.png'
    shutil.copy(images / 'dark/00.png', os.fsencode(folder) + b'/' + name)
    out = tmp_path / f'f.{suffix}'
    found = write([folder], out, NAME, weights)
    expected = f'{folder}/{os.fsdecode(name)}'
    assert found.names == [expected]
    if suffix == 'csv':
        text = out.read_bytes().decode(errors='surrogateescape')
        _, row = csv.reader(text.splitlines(keepends=True))
        assert row[0] == expected and len(row) == 97
    elif suffix == 'npz':
        assert features(out)[1] == [expected]
    else:
        with safe_open(out, 'np') as file:
            assert json.dumps(file.metadata()['name.0']).endswith(
                '\\\\udcff,\\\\n.png"'
            )


def test_neighbours_are_the_literal_ones(monkeypatch):
    """In float64, in parts of a few rows."""
    torch.manual_seed(0)
    x = torch.randn(50, 8)
    x[[7, 30]] = x[3].clone()
    monkeypatch.setattr(similarity, 'PAIRS', 7 * 50)
    d = x.double() - x.double().mean(dim=0)
    d = d / d.norm(dim=1, keepdim=True)
    cosine = d @ d.T
    cosine.fill_diagonal_(-2)
    values, indices = similarity.nearest(x, 3)
    theirs = cosine.topk(3).values
    torch.testing.assert_close(values.double(), theirs, rtol=0, atol=1e-6)
    torch.testing.assert_close(
        cosine.gather(1, indices), theirs, rtol=0, atol=1e-6
    )
    assert (indices != torch.arange(50)[:, None]).all()


def test_how_often_the_nearest_is_of_the_same_folder():
    """The accuracy of the nearest neighbour, and that of chance."""
    names = ['a/1.png', 'a/2.png', 'a/3.png', 'b/1.png', 'b/2.png']
    words = similarity.same_folder(names, [1, 0, 3, 4, 3])
    assert words.endswith('same folder for 80.0%, by chance 40.0%')
    assert similarity.same_folder(names[:3], [1, 0, 1]) == ''


def test_duplicates_are_the_literal_ones(monkeypatch):
    """Components of the graph of correlations, by another's code."""
    monkeypatch.setattr(similarity, 'PAIRS', 7 * 60)
    torch.manual_seed(0)
    x = torch.rand(60, 3, 4, 4)
    for number in range(60):  # chains: like the one before, more or less
        if number % 6:
            x[number] += 2.5 * torch.rand(1) * x[number - 1]
    x = x[torch.randperm(60)]
    d = x.double() - x.double().mean(dim=(2, 3), keepdim=True)
    d = d.flatten(1) / d.flatten(1).norm(dim=1, keepdim=True)
    for threshold in (0.5, 0.7, 0.9):
        _, labels = connected_components((d @ d.T >= threshold).numpy())
        theirs = [np.flatnonzero(labels == i).tolist() for i in set(labels)]
        theirs = sorted(group for group in theirs if len(group) > 1)
        assert len(theirs) > 1
        assert same(patterns(x), threshold) == theirs


def test_what_counts_as_a_duplicate():
    """Equal images; brighter ones; of one colour; and no others."""
    torch.manual_seed(0)
    x = torch.rand(6, 3, 16, 16) * 200
    x[3] = x[1]
    x[4] = 10 + 1.2 * x[1]
    assert same(patterns(x), 1.0) == [[1, 3, 4]]
    flat = torch.tensor([0.0, 0.0, 255.0]).view(3, 1, 1, 1)
    flat = flat.expand(3, 3, 16, 16)
    assert same(patterns(torch.cat([x[:3], flat])), 0.99) == [[3, 4, 5]]
    # What else is in the folder does not matter.
    kinds = torch.cat([x[:3], 1000 + torch.rand(9, 3, 16, 16)])
    assert same(patterns(kinds), 0.5) == []


@pytest.mark.parametrize('form', ['JPEG', 'TIFF'])
def test_panoramas_are_compared_whole(form, tmp_path):
    """Those of one middle were the same, whatever is beside it."""
    random = np.random.default_rng(0)
    middle = random.integers(0, 255, (48, 48, 3))
    for number in range(4):
        image = random.integers(0, 255, (48, 168, 3))
        image[:, 60:108] = middle
        values = image.astype('uint8' if form == 'JPEG' else 'uint16')
        path = str(tmp_path / f'{number}.{form.lower()}')
        assert cv2.imwrite(path, values)
    pixels = RGB if form == 'JPEG' else PixelFormat(3, 'uint16')
    paths = sorted(map(str, tmp_path.iterdir()))
    for whole, expected in ((False, [[0, 1, 2, 3]]), (True, [])):
        thumbnails = load_images(paths, (16, 16), pixels, whole)
        assert same(patterns(thumbnails), 0.97) == expected


def test_as_many_as_there_are():
    """Ten thousand equal images are one group, at once."""
    vectors = patterns(torch.rand(1, 3, 4, 4)).repeat(10_000, 1)
    assert same(vectors, 0.99) == [list(range(10_000))]


@pytest.mark.parametrize(
    ('place', 'also'),
    [('images', dict(neighbours=1)), ('images/deep', dict(sheet=True))],
)
def test_no_picture_among_the_images(place, also, images, tmp_path):
    also = {**dict(neighbours=None, duplicates=None, sheet=False), **also}
    files = files_of([images])
    check_similar(files, [images], tmp_path / 'f.npz', **also)
    check_similar(files, files, images / 'f.npz', **also)
    with pytest.raises(ValueError, match='must be outside of .*images'):
        check_similar(files, [images], tmp_path / place / 'f.npz', **also)


@pytest.mark.parametrize('number', [1, 5, 16])
def test_each_place_has_a_square_of_its_own(number):
    """Near it: on a grid in order every place gets its own."""
    places = np.random.default_rng(0).random((number, 2))
    found = squares(places, 4)
    assert len({tuple(x) for x in found.tolist()}) == number
    assert found.min() >= 0 and found.max() <= 3
    grid = np.stack(np.divmod(np.arange(16), 4), axis=1)
    assert np.array_equal(squares(grid / 3, 4), grid)


def test_equal_images_have_places():
    torch.manual_seed(0)
    for row in (torch.ones(1, 8), torch.randn(1, 96)):
        places = tsne(row.repeat(5, 1))
        assert places.shape == (5, 2) and np.isfinite(places).all()
        assert places.min() >= 0 and places.max() <= 1
