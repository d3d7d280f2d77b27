"""Features of many images: they go on, and which are alike."""

import csv
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import bright_and_dark
from PIL import Image
from safetensors import safe_open

from saim_mm import apis
from saim_mm.evaluation import embed, similarity
from saim_mm.evaluation.embed import embed_images
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
    (folder / 'dark/05b.png').write_bytes(b'no image')
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


def test_goes_on(images, weights, tmp_path, looked_at):
    """To the same bits, and reads nothing twice."""
    whole = tmp_path / 'whole.npz'
    found, _ = embed_images([images], whole, NAME, weights, batch_size=4)
    names = list(looked_at)
    assert len(names) == 25 and len(found.names) == 24
    assert [os.path.basename(x) for x, _ in found.skipped] == ['05b.png']

    out = tmp_path / 'out.npz'
    looked_at.clear()
    with pytest.raises(KeyboardInterrupt):
        embed_images(
            [images], out, NAME, weights, batch_size=4, done=stop_after(20)
        )
    assert not out.exists() and looked_at == names[:20]
    mine = tmp_path / 'out.npz.parts/of_mine.txt'
    mine.write_text('precious')
    looked_at.clear()
    done = []
    again, _ = embed_images(
        [images], out, NAME, weights, batch_size=4, done=done.append
    )
    assert looked_at == names[16:]
    assert sum(done) == 25
    for one, other in zip(features(out), features(whole)):
        assert np.array_equal(one, other)
    assert again.names == found.names and again.skipped == found.skipped
    assert sorted(x.name for x in tmp_path.iterdir()) == [
        'images', 'out.npz', 'out.npz.parts', 'whole.npz'
    ]  # fmt: skip
    assert list((tmp_path / 'out.npz.parts').iterdir()) == [mine]


@pytest.mark.parametrize(
    'change',
    ['file', 'weights', 'readout', 'damage', 'folder', 'current folder'],
)
def test_what_has_changed_is_not_taken(
    change, images, weights, tmp_path, looked_at, monkeypatch
):
    """Not one feature of before, nor a name."""
    out, settings = tmp_path / 'out.npz', [NAME, weights]
    if change == 'current folder':
        monkeypatch.chdir(images)
        images = Path('.')
    with pytest.raises(KeyboardInterrupt):
        embed_images([images], out, *settings, done=stop_after(17))
    parts = sorted((tmp_path / 'out.npz.parts').iterdir())
    assert len(parts) == 2
    expected, readout = 25, 'patch_mean'
    if change == 'file':  # of the first part
        file = images / 'bright/00.png'
        before = file.stat()
        Image.fromarray(255 - np.asarray(Image.open(file))).save(file)
        assert file.stat().st_mtime_ns != before.st_mtime_ns
        expected = 25 - 8
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
    elif change == 'folder':
        images = shutil.move(images, tmp_path / 'moved')
    else:
        monkeypatch.chdir(tmp_path)
        images = Path('images')
    looked_at.clear()
    found, _ = embed_images([images], out, *settings, readout)
    assert len(looked_at) == expected
    anew, _ = embed_images([images], tmp_path / 'anew.npz', *settings, readout)
    assert torch.equal(found.features, anew.features)
    assert found.names == anew.names


def test_nothing_that_can_be_read(weights, tmp_path):
    (tmp_path / 'images').mkdir()
    (tmp_path / 'images/a.jpg').write_bytes(b'no image')
    with pytest.raises(ValueError, match='none of them can .*a.jpg'):
        embed_images([tmp_path / 'images'], tmp_path / 'f.npz', NAME, weights)
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
    found, _ = embed_images([folder], out, NAME, weights)
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


def test_neighbours_and_duplicates_are_the_literal_ones(monkeypatch):
    """In float64, in parts of a few rows; copies of copies are one group."""
    torch.manual_seed(0)
    x = torch.randn(50, 8)
    x[[7, 30]] = x[3].clone()
    x[41] = x[30] + 1e-4
    monkeypatch.setattr(similarity, 'ROWS', 7)
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
    assert similarity.same(x, 1.0) == [[3, 7, 30, 41]]
    assert similarity.same(x[:3], 1.0) == []
    # All the same: nothing but their mean.
    assert similarity.same(x[3:4].repeat(3, 1), 0.98) == [[0, 1, 2]]
    # 0 is like 1, and 1 like 2, though 0 is not like 2.
    angles = torch.tensor([0.0, 0.3, 0.6, 3.0, 3.5, 4.2])
    circle = torch.stack([angles.cos(), angles.sin()], dim=1)
    circle = torch.cat([circle, -circle])  # of mean zero
    assert [0, 1, 2] in [x[:3] for x in similarity.same(circle, 0.95)]


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
