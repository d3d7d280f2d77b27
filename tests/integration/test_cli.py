"""The command `saim`: the README's four lines, and what may go wrong."""

import csv
import json
import os
import re
import shlex
import signal
import sys
import time

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers import ROOT, bright_and_dark, call, fork, weights
from mmengine.config import Config
from PIL import Image
from safetensors import safe_open

from saim_mm.cli import main
from saim_mm.engine import recipes
from saim_mm.engine.resume import find_checkpoints

SAIM = ('-m', 'saim_mm.cli')


@pytest.fixture(scope='module')
def classes(tmp_path_factory):
    return bright_and_dark(tmp_path_factory.mktemp('classes'), 12, 28, 30)


def saim(*words, folder):
    return call(sys.executable, *SAIM, *words, folder=folder)


@pytest.fixture(scope='module')
def door(classes, tmp_path_factory):
    """The README's commands in one folder, as they stand but for epochs."""
    folder = tmp_path_factory.mktemp('door')
    text = (ROOT / 'README.md').read_text()
    [block] = re.findall(
        r'^```bash\n# needs your images\n(.*?)^```', text, re.M | re.S
    )
    (folder / 'photo.jpg').symlink_to(classes / 'dark/00.png')
    outputs = {}
    for line in block.splitlines():
        line = re.sub('/path/to/(images|classes)', str(classes), line)
        name, *words = shlex.split(line)
        assert name == 'saim'
        if words[0] in ('pretrain', 'finetune'):
            words += [
                '--epochs',
                '2',
                'train_dataloader.num_workers=0',
                'train_dataloader.persistent_workers=False',
            ]
        code, output = saim(*words, folder=folder)
        assert code == 0, output
        outputs[words[0]] = output
    assert list(outputs) == ['pretrain', 'embed', 'finetune', 'predict']
    return folder, outputs


def test_the_four_lines(door, classes):
    folder, outputs = door
    lines = outputs['pretrain'].strip().splitlines()
    assert '24 images of about 30 x 28 pixels' in lines[0]
    assert "32 pixels in patches of 4, ViT 'mini', 2 epochs" in lines[0]
    assert lines[-1].startswith('next: saim embed ')
    # Nothing but these, the steps and the checkpoint.
    others = [
        x for x in lines[1:-1] if not re.match(r'step \d+/8  loss|wrote ', x)
    ]
    assert not others
    features = np.load(folder / 'features.npz')
    assert features['features'].shape == (24, 96)
    assert len(set(features['names'])) == 24
    assert np.isfinite(features['features']).all()
    *table, line = outputs['predict'].splitlines()
    assert line.startswith('next: saim predict classifier photo.jpg ')
    [row] = csv.DictReader(table)
    assert row['file'] == 'photo.jpg' and row['class'] in ('bright', 'dark')
    assert 0.5 <= float(row['score']) <= 1
    val = (folder / 'classifier/val.txt').read_text().splitlines()
    train = (folder / 'classifier/train.txt').read_text().splitlines()
    assert not set(val) & set(train) and len(val) + len(train) == 24
    assert {x.split()[-1] for x in val} == {'0', '1'}


def test_the_config_is_an_ordinary_one(door, tmp_path):
    """By another way the same weights, to the bit."""
    folder, _ = door
    code, output = call(
        *(sys.executable, 'tools/train.py', folder / 'run/config.py'),
        *('--work-dir', tmp_path),
    )
    assert code == 0, output
    ours, theirs = (
        weights(find_checkpoints(x)[0]) for x in (folder / 'run', tmp_path)
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_same_command_goes_on_or_says_why_not(door, classes):
    folder, _ = door
    words = ['train_dataloader.num_workers=0']
    code, output = saim(
        'pretrain',
        classes,
        '--out',
        'run',
        '--epochs',
        '2',
        *words,
        folder=folder,
    )
    assert code == 0 and 'wrote' in output  # there was nothing left to do
    code, output = saim(
        'pretrain',
        classes,
        '--out',
        'run',
        '--epochs',
        '3',
        *words,
        folder=folder,
    )
    assert code == 1
    assert output.splitlines()[-1].startswith(f"error: out='{folder}/run'")
    assert 'train_cfg.max_epochs=2, now 3' in output


def test_other_formats_and_broken_files(door, classes, tmp_path):
    folder, _ = door
    images = tmp_path / 'images'
    (images / 'deep').mkdir(parents=True)
    (images / 'deep/a.png').symlink_to(classes / 'dark/00.png')
    (images / 'broken.jpg').write_bytes(b'no image')
    for name in ('f.csv', 'f.safetensors', 'f.npz'):
        code, output = saim(
            *('embed', images, '--init', folder / 'run', '--out', name),
            folder=tmp_path,
        )
        assert code == 0, output
        assert 'skipped: ' in output and 'broken.jpg' in output
        assert f'wrote {name}: 1 x 96' in output.splitlines()
        assert output.splitlines()[-1] == f'next: saim view {folder / "run"}'
    expected = np.load(tmp_path / 'f.npz')['features']
    with safe_open(tmp_path / 'f.safetensors', 'np') as file:
        assert np.array_equal(file.get_tensor('features'), expected)
        assert file.metadata() == {'name.0': str(images / 'deep/a.png')}
    _, row = csv.reader(open(tmp_path / 'f.csv'))
    np.testing.assert_allclose(
        [float(x) for x in row[1:]], expected[0], rtol=1e-6
    )
    assert not list(tmp_path.glob('*.parts'))
    code, output = saim(
        *('predict', folder / 'classifier', images, '--out', 'p.json'),
        *('--pictures', 'pictures'),
        folder=tmp_path,
    )
    assert code == 0, output
    assert 'skipped: ' in output and 'broken.jpg' in output
    [found] = json.loads((tmp_path / 'p.json').read_text())
    assert found['file'].endswith('a.png')
    with Image.open(tmp_path / 'pictures/deep/a.jpg') as picture:
        assert min(picture.size) == 224


def test_one_checkpoint_of_several(door, tmp_path):
    """Its file in place of the folder: the config lies beside it."""
    folder, outputs = door
    table, rows = [], []
    for name in ('classifier', 'classifier/epoch_1.pth'):
        code, output = saim('predict', name, 'photo.jpg', folder=folder)
        assert code == 0, output
        table.append(output.splitlines()[:2])
        rows += csv.DictReader(table[-1])
    assert table[0] == outputs['predict'].splitlines()[:2]
    assert float(rows[0]['score']) != float(rows[1]['score'])
    (tmp_path / 'epoch_1.pth').write_bytes(
        (folder / 'classifier/epoch_1.pth').read_bytes()
    )
    code, output = saim(
        *('predict', tmp_path / 'epoch_1.pth', folder / 'photo.jpg'),
        folder=folder,
    )
    assert code == 1
    assert 'beside the config that says which model' in output


def test_which_images_are_alike(door, classes, tmp_path):
    folder, _ = door
    images = tmp_path / 'images'
    images.mkdir()
    for path in classes.glob('dark/*.png'):
        (images / path.name).symlink_to(path)
    (images / 'again.png').symlink_to(classes / 'dark/00.png')
    code, output = saim(
        *('embed', images, '--init', folder / 'run', '--out', 'f.npz'),
        *('--neighbours', '2', '--duplicates', '0.99999', '--sheet'),
        folder=tmp_path,
    )
    assert code == 0, output
    rows = list(csv.DictReader(open(tmp_path / 'f.neighbours.csv')))
    first = {x['file']: x['neighbour'] for x in rows if x['rank'] == '1'}
    assert len(rows) == 2 * len(first) == 26
    same = [str(images / x) for x in ('00.png', 'again.png')]
    assert [first[x] for x in same] == same[::-1]
    rows = list(csv.DictReader(open(tmp_path / 'f.duplicates.csv')))
    assert [(x['group'], x['file']) for x in rows] == [('0', x) for x in same]
    assert 'wrote f.neighbours.csv\n' in output  # one folder: no classes
    assert 'f.duplicates.csv: 1 groups, 1 images more' in output
    for name in ('f.neighbours.jpg', 'f.tsne.jpg'):
        with Image.open(tmp_path / name) as picture:
            assert min(picture.size) > 200
    assert 'f.tsne.jpg: 13 images' in output


def test_nothing_of_ours_on_standard_output(door, classes, tmp_path):
    """A pipe gets the table, and no log."""
    folder, _ = door
    for words in (
        ('embed', classes, '--init', folder / 'run', '--out', 'f.csv'),
        ('predict', folder / 'classifier', classes / 'dark/00.png'),
    ):
        files = tmp_path / 'output', tmp_path / 'error'
        process = fork(
            *SAIM, *words, output=files[0], error=files[1], folder=tmp_path
        )
        process.join(60)
        assert process.exitcode == 0
        lines = files[0].read_text().splitlines()
        files[0].unlink()
        if words[0] == 'embed':
            assert not lines
        else:
            assert lines[0] == 'file,class,score' and len(lines) == 2


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        ('pretrain gone --out x', "data='gone': no such folder"),
        (
            'pretrain empty --out x',
            "data='empty': must be a folder with images",
        ),
        (
            'pretrain IMAGES --out x --size 30',
            'size=30: must be a multiple of patch=4',
        ),
        ('pretrain IMAGES --out x --arch huge', "arch='huge': must be one of"),
        (
            'pretrain IMAGES --out x --init gone.pth',
            "init='gone.pth': no such file",
        ),
        (
            'finetune empty --out x',
            "data='empty': must be a folder with images",
        ),
        ('finetune IMAGES/dark --out x', 'two or more classes'),
        (
            'finetune IMAGES --out x --init empty',
            "init='empty': must be the folder of a training",
        ),
        ('embed gone --out f.npz', "images='gone': no such file"),
        (
            'embed IMAGES --out f.txt',
            "out='f.txt': must be the name of a file, in",
        ),
        (
            'embed IMAGES --out f.npz --neighbours 24',
            'neighbours=24: must be from 1 to 23: there are 24 images',
        ),
        (
            'embed IMAGES --out f.npz --duplicates 98',
            'duplicates=98.0: must be a cosine above 0',
        ),
        (
            'predict empty photo.jpg --out f.txt',
            "out='f.txt': must be the name",
        ),
        ('predict empty photo.jpg', "init='empty'"),
    ],
)
def test_errors(words, message, classes, tmp_path, monkeypatch):
    """One clear last line, and nothing before it but what it does."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'empty').mkdir()
    words = words.replace('IMAGES', str(classes)).split()
    result = CliRunner().invoke(main, words)
    output = result.output
    assert result.exit_code == 1
    last = output.strip().splitlines()[-1]
    assert last.startswith('error: ') and message in last
    assert 'Traceback' not in output


def test_ctrl_c(classes, tmp_path):
    """It saves, and the same command goes on to the same end."""
    words = [
        *('pretrain', classes, '--epochs', '12', '--out'),
    ]
    files = tmp_path / 'output', tmp_path / 'error'
    process = fork(
        *SAIM, *words, tmp_path / 'a', output=files[0], error=files[1]
    )
    while not list((tmp_path / 'a').glob('*.pth')):
        assert process.is_alive()
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    process.join(60)
    output, error = (path.read_text() for path in files)
    assert process.exitcode == 130, error
    assert output == ''  # nothing a script would trip over
    assert error.splitlines()[-1].startswith('stopped; the same command')
    assert (tmp_path / 'a/interrupted.pth').is_file()
    for name in 'ab':
        code, output = saim(*words, tmp_path / name, folder=tmp_path)
        assert code == 0, output
    first, second = (
        weights(tmp_path / name / 'epoch_12.pth') for name in 'ab'
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_lists_of_a_training_stay(classes, tmp_path):
    """Other images for the same folder are refused, and change nothing."""
    first, second = tmp_path / 'first', tmp_path / 'second'
    for folder, number in ((first, 4), (second, 6)):
        for name in ('bright', 'dark'):
            (folder / name).mkdir(parents=True)
            for path in sorted((classes / name).iterdir())[:number]:
                (folder / name / path.name).symlink_to(path)
    out = tmp_path / 'out'
    recipes.finetune_config(first, out)
    lists = {p: p.read_text() for p in out.iterdir()}
    assert {p.name for p in lists} == {'train.txt', 'val.txt'}
    recipes.finetune_config(first, out)  # the same goes on
    with pytest.raises(ValueError, match='out=.*on other images .train.txt'):
        recipes.finetune_config(second, out)
    assert {p: p.read_text() for p in out.iterdir()} == lists


def test_broken_files_are_said(classes, tmp_path):
    images = tmp_path / 'images'
    images.mkdir()
    for path in (classes / 'dark').iterdir():
        (images / path.name).symlink_to(path)
    (images / 'broken.png').write_bytes(b'no image')
    code, output = saim(
        *('pretrain', images, '--out', 'run', '--epochs', 2),
        *(
            'train_dataloader.num_workers=0',
            'train_dataloader.drop_last=False',
        ),
        folder=tmp_path,
    )
    assert code == 0, output
    report = tmp_path / 'run/unreadable_files.txt'
    assert f'skipped: 1 unreadable, see {report}' in output
    assert 'broken.png' in report.read_text()


def test_what_follows_from_the_images(tmp_path, monkeypatch):
    """Size, patches and their blur, with and without a GPU."""
    Image.new('RGB', (300, 240)).save(tmp_path / 'a.jpg')
    cases = []
    for device in ('cpu', 'cuda'):
        monkeypatch.setattr(recipes, 'get_device', lambda d=device: d)
        monkeypatch.setattr(recipes, 'gpu_has_bfloat16', lambda: True)
        cfg, line = recipes.pretrain_config(tmp_path, tmp_path / 'out')
        backbone = cfg.model.backbone
        sigma = cfg.model.target_generator.sigma
        cases.append((backbone.img_size, backbone.patch_size, sigma))
        assert isinstance(cfg, Config) and '1 images' in line
    assert cases == [(96, 8, 0.5), (224, 16, 1)]
