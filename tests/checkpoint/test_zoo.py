"""The model zoo: what it lists is so, and mim finds it when installed."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import mmpretrain
import pytest
import torch
import yaml
from helpers import ROOT
from mmengine.config import Config
from modelindex.load_model_index import load

import saim_mm
from saim_mm.checkpoint import zoo
from saim_mm.checkpoint.loader import load_state_dict
from saim_mm.datasets.pixels import RGB
from saim_mm.visualization.figures import load_images

TASKS = ('pretrain', 'classification', 'detection', 'segmentation')
CIFAR = 'saim_vit-mini-p4_stochastic_1xb128-coslr-20e_cifar10'
FOLDER = 'saim_vit-demo-p8_1xb64-coslr-500i_folder'
BASE = 'saim_vit-base-p16_32xb64-amp-coslr-300e_in1k'


def models():
    for task in TASKS:
        path = ROOT / 'configs' / task / 'metafile.yml'
        yield from yaml.safe_load(path.read_text())['Models']


def test_every_config_is_listed_once():
    """But for the study's ablations and baselines without weights here."""
    listed = sorted(model['Config'] for model in models())
    folders = (*TASKS, 'pretrain/light')
    configs = [ROOT.glob(f'configs/{folder}/*.py') for folder in folders]
    configs.append(ROOT.glob(f'configs/pretrain/ablations/{CIFAR}.py'))
    assert listed == sorted(
        str(path.relative_to(ROOT)) for paths in configs for path in paths
    )
    index = load(str(ROOT / 'model-index.yml'))
    assert len(index.models) == len(listed)


def test_listed_weights_are_those_in_the_package():
    """What else is listed tests/integration/test_configs.py compares."""
    for model in models():
        assert (ROOT / model['Config']).stem == model['Name']
        weights = model['Weights']
        name = weights.removeprefix('saim_mm://').removesuffix('/')
        assert name == (
            model['Name'] if model['Name'] in zoo.bundled() else 'none'
        )


def test_results_say_whose_they_are():
    """And are those of the docs."""
    pages = ('README.md', 'docs/results.md')
    results = ''.join((ROOT / page).read_text() for page in pages)
    with_results = [model for model in models() if model['Results']]
    assert len(with_results) > 5
    for model in with_results:
        source = model['Metadata']['Results From']
        papers = source.startswith('the paper')
        assert papers or source.startswith('this code')
        assert not papers or 'https://arxiv.org/abs/2212.01610' in source
        for result in model['Results']:
            for name, value in result['Metrics'].items():
                assert name.endswith(' (paper)') == papers, name
                assert re.search(rf'\b{value}\b', results), (model, name)


@pytest.mark.parametrize('name', zoo.bundled())
def test_shipped_weights(name, photos):
    """Predict better than others, on photographs they have not seen."""
    model = mmpretrain.get_model(name, pretrained=True)
    untrained = mmpretrain.get_model(name)
    untrained.init_weights()
    paths = [str(path) for path in sorted(photos.iterdir())]
    inputs = RGB.normalize(load_images(paths, model.backbone.img_size))
    losses = []
    for which in (model, untrained):
        torch.manual_seed(0)
        with torch.no_grad():
            order = which.sample_order(inputs)
            losses.append(which.compute_loss(inputs, order).item())
    assert losses[0] < 0.7 * losses[1], losses
    assert (zoo.WEIGHTS / f'{name}.safetensors').stat().st_size < 10e6


def test_weights_by_name():
    assert zoo.DEMO in zoo.bundled() and CIFAR in zoo.bundled()
    vit = saim_mm.get_model('saim_vit-mini-p4', f'saim_mm://{CIFAR}')
    weights = load_state_dict(Path(f'saim_mm://{CIFAR}/'))
    assert weights['backbone.pos_embed'].dtype == torch.float32
    torch.testing.assert_close(
        vit.layers[0].attn.qkv.weight,
        weights['backbone.layers.0.attn.qkv.weight'],
        rtol=0,
        atol=0,
    )
    with pytest.raises(
        ValueError, match=f"'saim_mm://{BASE}/': the package has .*=FILE"
    ):
        mmpretrain.get_model(BASE, pretrained=True)
    with pytest.raises(ValueError, match='only those of .*cifar10'):
        zoo.resolve('saim_mm://../weights/x')
    assert zoo.resolve('a/b.pth') == Path('a/b.pth')


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    """Where the wheel of this package is installed, alone."""
    source = tmp_path_factory.mktemp('source')
    for name in ('saim_mm', 'configs', 'tools'):
        shutil.copytree(
            ROOT / name,
            source / name,
            ignore=shutil.ignore_patterns('__pycache__', '.mim'),
        )
    for name in ('pyproject.toml', 'setup.py', 'README.md', 'model-index.yml'):
        shutil.copy(ROOT / name, source)
    target = tmp_path_factory.mktemp('installed')
    subprocess.run(
        [
            *(sys.executable, '-m', 'pip', 'install', '--quiet', '--no-deps'),
            *('--no-build-isolation', '--target', target, source),
        ],
        check=True,
    )
    return target


#: Runs each tool with --help in a process forked from one that has imported
#: PyTorch, in an empty folder: prints its path, exit code and first lines.
HELP = """
import contextlib, io, os, runpy, sys, traceback
from pathlib import Path
import torch
import saim_mm

root = Path(saim_mm.__file__).parent
assert root.is_relative_to(sys.argv[1]), root
scripts = [
    path
    for path in sorted((root / '.mim/tools').rglob('*.py'))
    if "__name__ == '__main__'" in path.read_text()
]
for path in scripts:
    sys.stdout.flush()
    if child := os.fork():
        os.waitpid(child, 0)
        continue
    output, code = io.StringIO(), 0
    sys.argv = [str(path), '--help']
    sys.path.insert(0, str(path.parent))
    with contextlib.redirect_stdout(output):
        try:
            runpy.run_path(str(path), run_name='__main__')
        except SystemExit as stop:
            code = stop.code or 0
        except BaseException:
            traceback.print_exc(file=output)
            code = 1
    print(f'== {path.relative_to(root)} {code}', output.getvalue(), sep='\\n')
    sys.stdout.flush()
    os._exit(0)
"""


def test_every_tool_says_what_it_does(wheel, tmp_path):
    """--help, from an installed wheel in an empty folder."""
    environment = dict(os.environ, OMP_NUM_THREADS='1', PYTHONPATH=str(wheel))
    done = subprocess.run(
        [sys.executable, '-c', HELP, wheel],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = dict(
        re.findall(
            r'^== \.mim/tools/(\S+ \d+)\n(.*?)(?=^== |\Z)',
            done.stdout,
            re.MULTILINE | re.DOTALL,
        )
    )
    failed = {
        name: text[-1000:]
        for name, text in found.items()
        if not name.endswith(' 0') or 'usage: ' not in text
    }
    assert not failed
    here = {
        str(path.relative_to(ROOT / 'tools'))
        for path in (ROOT / 'tools').rglob('*.py')
        if "__name__ == '__main__'" in path.read_text()
    }
    assert {name.split()[0] for name in found} == here - {'demo.py'}
    for script in (wheel / 'saim_mm/.mim/tools').rglob('*.sh'):
        done = subprocess.run(
            ['bash', script, '--help'],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0 and script.name in done.stdout, script
    assert not list(tmp_path.iterdir())


def mim(folder, package, *arguments):
    """Run mim in a folder; returns what it printed."""
    environment = dict(os.environ, OMP_NUM_THREADS='1', COLUMNS='200')
    environment.pop('PYTHONPATH', None)
    if package:
        environment['PYTHONPATH'] = str(package)
    result = subprocess.run(
        [sys.executable, '-m', 'mim', *map(str, arguments)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-3000:]
    return result.stdout


@pytest.mark.parametrize(
    'installed',
    # Of a checkout tests/integration/test_docs.py tries the commands too.
    ['wheel', pytest.param('checkout', marks=pytest.mark.slow)],
)
def test_mim(installed, request, photos, tmp_path):
    package = None
    if installed == 'wheel':
        package = request.getfixturevalue('wheel')
        assert (package / 'saim_mm/.mim/model-index.yml').is_file()
        assert not (package / 'saim_mm/.mim/tools/demo.py').exists()
    output = mim(
        *(tmp_path, package, 'search', 'saim_mm', '--display-width', 200),
        *('--config', BASE, CIFAR),
    )
    assert 'imagenet-1k' in output and '2048' in output
    mim(
        *(tmp_path, package, 'download', 'saim_mm'),
        *('--config', BASE, CIFAR, '--dest', tmp_path / 'zoo'),
    )
    assert (
        Config.fromfile(tmp_path / 'zoo' / f'{BASE}.py').model.type == 'SAIM'
    )
    output = mim(
        *(tmp_path, package, 'train', 'saim_mm', f'{FOLDER}.py'),
        *('--gpus', 0, '--work-dir', tmp_path / 'run', '--cfg-options'),
        f'train_dataloader.dataset.data_root={photos}',
        *('train_cfg.max_iters=2', 'train_dataloader.batch_size=2'),
        *('train_dataloader.num_workers=0', 'model.backbone.img_size=32'),
        'train_dataloader.persistent_workers=False',
        'train_dataloader.dataset.pipeline.0.scale=32',
    )
    assert (tmp_path / 'run/iter_2.pth').is_file(), output[-3000:]
    where = package or ROOT
    assert f'{where}' in re.search(r'will use (\S+) instead', output)[1]
    photo = sorted(photos.iterdir())[0]
    output = mim(
        *(tmp_path, package, 'run', 'saim_mm', 'reconstruction', photo),
        *('--out', 'picture.png'),
    )
    assert (tmp_path / 'picture.png').is_file()
