"""What README and docs name is there, and what they say to do works."""

import importlib
import re
import runpy
import shlex
import subprocess
import sys
from importlib.machinery import PathFinder

import pytest
import torch
from helpers import ROOT, TINY, call
from mmengine.config import Config, DictAction
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS

from saim_mm import SAIMRunner

PAGES = [
    ROOT / 'README.md',
    ROOT / 'configs/README.md',
    *sorted((ROOT / 'docs').glob('*.md')),
]
OPTIONS = (ROOT / 'docs/pretrain.md').read_text()
# make and pip are what set up the tests themselves.
STUDY = 'configs/pretrain/saim_vit-tiny-p4_1xb512-amp-coslr-400e_cifar10.py'
SET_UP = ('make', 'pip', 'git', 'cd', 'source', 'python3.11')


def blocks(language):
    """(page, text) of the code in all pages."""
    for page in PAGES:
        for text in re.findall(
            rf'^```{language}\n(.*?)^```', page.read_text(), re.M | re.S
        ):
            yield page.name, text


def commands():
    """(page, whether it is marked as needing something, command)."""
    for page, text in blocks('bash'):
        marked = re.search('^# (needs .*)', text, re.MULTILINE)
        variables = {}
        for line in text.replace('\\\n', '').splitlines():
            for name, value in variables.items():
                line = line.replace(f'${name}', value)
            words = shlex.split(line, comments=True)
            if not words or words[0] in SET_UP:
                continue
            if found := re.fullmatch(r'(\w+)=(.*)', line):
                variables[found[1]] = found[2]
                continue
            yield page, bool(marked), words


@pytest.mark.parametrize('page', ['README.md', 'CONTRIBUTING.md'])
def test_beside_the_clone_there_is_no_other_saim_mm(page, tmp_path):
    """A folder saim_mm would hide the package as a namespace of that name."""
    clones = re.findall(
        r'^git clone <[^>]+>(?: ([\w.-]+))? && cd (\S+)',
        (ROOT / page).read_text(),
        re.MULTILINE,
    )
    assert clones
    for named, entered in clones:
        assert named == entered
        package = tmp_path / named / 'saim_mm'
        package.mkdir(parents=True)
        (package / '__init__.py').touch()
        assert PathFinder.find_spec('saim_mm', [str(tmp_path)]) is None
    # What the test is for: this is how it went wrong.
    (tmp_path / 'saim_mm/saim_mm').mkdir(parents=True)
    found = PathFinder.find_spec('saim_mm', [str(tmp_path)])
    assert found is not None and found.origin is None


def test_paths_exist():
    for page in PAGES:
        paths = set(
            re.findall(
                r'\b(?:configs|tools|saim_mm|docs|tests)/[\w./-]+\w',
                page.read_text(),
            )
        )
        for path in paths - {'docs/_build/index.html'}:
            assert (ROOT / path).exists(), (page.name, path)


def test_every_option_of_the_table_can_be_set():
    options = re.findall(r'^\| `(model\.[\w.]+)` \|', OPTIONS, re.MULTILINE)
    values = {
        'model.backbone.arch': 'deit-tiny',
        'model.backbone.img_size': (64, 96),
        'model.backbone.patch_size': 8,
        'model.order': 'semantic',
        'model.segment_size': 2,
        'model.prefix': 'random',
        'model.teacher': dict(type='MovingAverageTeacher'),
        'model.target_generator.type': 'SmoothedPatchTarget',
        'model.neck.widen_factor': 1,
        'model.neck.depth': 6,
        'model.neck.share_weights': True,
        'model.target_generator.kernel_size': None,
        'model.target_generator.sigma': 1.5,
        'model.target_generator.normalize': False,
        'model.head.predictor': 'linear',
        'model.head.loss.criterion': 'L1',
    }
    assert set(options) == set(values)
    cfg = Config.fromfile(
        'configs/pretrain/saim_vit-base-p16_32xb64-amp-coslr-300e_in1k.py'
    )
    cfg.merge_from_dict(values)
    model = MODELS.build(cfg.model)
    assert model.backbone.patch_resolution == (8, 12)
    assert isinstance(model.order, MODELS.get('SemanticOrder'))
    assert model.segment_size == 2
    assert model.prefix == 'random'
    assert model.teacher is not None
    assert model.neck.depth == 6
    assert isinstance(model.head.predictor, torch.nn.Linear)


@pytest.mark.parametrize(
    'words',
    [words for _, _, words in commands() if '--cfg-options' in words],
    ids=lambda words: next(x for x in words if x.endswith('.py')),
)
def test_options_of_commands(words):
    """Those of --cfg-options are in the config, needs or no needs."""
    path = next(
        (x for x in words if x.endswith('.py') and 'configs/' in x),
        STUDY,  # what tools/study/run.py trains
    )
    cfg = Config.fromfile(path)
    options = words[words.index('--cfg-options') + 1 :]
    assert options
    for option in options:
        key, value = option.split('=', 1)
        assert DictAction._parse_iterable(value) is not None
        node = cfg
        for part in key.split('.'):
            if isinstance(node, list):  # a pipeline
                node = dict(enumerate(node))
                part = int(part)
            assert part in node, f'{key} is not in {path}'
            node = node[part]


# Once, if several pages have it.
RUN = list(
    {
        shlex.join(words): words
        for _, marked, words in commands()
        if not marked and 'web.py' not in words[1]  # a server: test_web.py
    }.values()
)


@pytest.mark.parametrize('words', RUN, ids=lambda words: ' '.join(words)[:60])
def test_command(words, photos, checkpoint, tmp_path):
    """Every command that is not marked, as it stands."""
    for folder in ('configs', 'tools'):
        (tmp_path / folder).symlink_to(ROOT / folder)
    photo = sorted(photos.iterdir())[0]
    (tmp_path / 'photo.jpg').symlink_to(photo)
    line = shlex.join(words)
    line = line.replace('/path/to/images', str(photos))
    line = line.replace('work_dirs/saim/epoch_300.pth', str(checkpoint))
    if 'train' in words:
        line += (
            ' train_cfg.max_iters=2 train_dataloader.num_workers=0'
            ' train_dataloader.persistent_workers=False'
        )
    line = re.sub('^python ', f'{sys.executable} ', line)
    line = re.sub('^mim ', f'{sys.executable} -m mim ', line)
    line = re.sub('^saim ', f'{sys.executable} -m saim_mm.cli ', line)
    before = set(tmp_path.rglob('*'))
    code, output = call(*shlex.split(line), folder=tmp_path)
    assert code == 0, output[-3000:]
    if not {'search', 'tools/benchmarks/cost.py'} & set(words):
        assert set(tmp_path.rglob('*')) > before


def test_python_of_the_zoo():
    [code] = [code for page, code in blocks('python') if page == 'zoo.md']
    names = {}
    exec(code, names)
    torch.testing.assert_close(
        names['saim'].backbone.layers[3].attn.qkv.weight,
        names['vit'].layers[3].attn.qkv.weight,
    )


#: Configs of docs/downstream.md -> toolbox, what they stand on.
OWN = {
    'my_classifier.py': ('mmpretrain', None),
    'my_detector.py': ('mmdet', 'mmdet::_base_/models/mask-rcnn_r50_fpn.py'),
    'my_segmentation.py': ('mmseg', 'mmseg::_base_/models/upernet_beit.py'),
}


@pytest.mark.parametrize('name', OWN)
def test_configs_of_ones_own(name, checkpoint, tmp_path, monkeypatch):
    """They build a model whose backbone takes the weights."""
    scope, base = OWN[name]
    pytest.importorskip(scope)
    [code] = [c for _, c in blocks('python') if c.startswith(f'# {name}\n')]
    code = f'_base_ = [{base!r}]\n{code}' if base else code
    (tmp_path / name).write_text(code)
    if scope != 'mmpretrain':  # or nothing finds mmseg::
        importlib.import_module(re.search(r"imports=\['(.*?)'", code)[1])
    cfg = Config.fromfile(tmp_path / name)
    with DefaultScope.overwrite_default_scope(scope):
        backbone = cfg.model.backbone.copy()
        cfg.model.backbone.init_cfg = None
        model = importlib.import_module(f'{scope}.registry').MODELS.build(
            cfg.model
        )
    assert model.backbone.arch_settings['embed_dims'] == 768
    backbone.update(arch=TINY, img_size=64, patch_size=8)
    backbone.init_cfg.checkpoint = str(checkpoint)
    if 'out_indices' in backbone:
        backbone.out_indices = [0, 1]
    vit = MODELS.build(backbone)
    vit.init_weights()
    name = 'layers.0.attn.qkv.weight'
    weights = torch.load(checkpoint)['state_dict'][f'backbone.{name}']
    assert torch.equal(vit.state_dict()[name], weights)
    images = torch.rand(1, 3, 64, 64)
    assert all(output.isfinite().all() for output in vit(images))


def test_the_table_of_models_is_that_of_the_metafiles():
    """If not: python docs/conf.py."""
    table = runpy.run_path(str(ROOT / 'docs/conf.py'))['zoo_table']()
    assert (ROOT / 'docs/zoo_table.md').read_text() == table


def test_extensions(photos, tmp_path, monkeypatch):
    """Each of docs/extend.md trains, in at most 30 lines; an order in 15."""
    files = {}
    for page, code in blocks('python'):
        if page == 'extend.md':
            name, text = re.match(r'# (\w+\.py)\n(.*)', code, re.S).groups()
            lines = [line for line in text.splitlines() if line]
            assert len(lines) <= (15 if '(Order)' in text else 30)
            (tmp_path / name).write_text(text)
            files[name] = text
    configs = [name for name, text in files.items() if '_base_' in text]
    assert len(configs) == 4 and len(files) == 8
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in configs:
        cfg = Config.fromfile(name)
        cfg.work_dir = name.removesuffix('.py')
        cfg.experiment_name = cfg.visualizer.name = f'docs_{name}'
        cfg.train_cfg.max_iters = 2
        cfg.train_dataloader.dataset.data_root = str(photos)
        cfg.train_dataloader.update(
            batch_size=4, num_workers=0, persistent_workers=False
        )
        SAIMRunner.from_cfg(cfg).train()
    # They draw as others do.
    code, output = call(
        *(sys.executable, ROOT / 'tools/visualization/order.py'),
        *(sorted(photos.iterdir())[0], '--config', 'centre_first.py'),
        *('--checkpoint', tmp_path / 'centre_first/iter_2.pth'),
        folder=tmp_path,
        PYTHONPATH=str(tmp_path),
    )
    assert code == 0, output[-3000:]
    assert (tmp_path / 'order.png').is_file()


def test_docs_build_without_warnings(tmp_path):
    pytest.importorskip('sphinx')
    subprocess.run(
        [
            *(sys.executable, '-m', 'sphinx', '--fail-on-warning'),
            *('--quiet', '--doctree-dir', tmp_path / 'trees'),
            *(ROOT / 'docs', tmp_path / 'html'),
        ],
        check=True,
    )
    for name in ('index', 'readme', 'api', 'zoo'):
        assert (tmp_path / 'html' / f'{name}.html').is_file()
    zoo = (tmp_path / 'html/zoo_table.html').read_text()
    assert 'Top 1 Accuracy, 300 epochs (paper): 83.6' in zoo
