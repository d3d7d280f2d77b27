"""The ablations, the baselines, and the study that compares them."""

import json
import re
import runpy
import subprocess
import sys

import pytest
import torch
from helpers import ROOT, TINY
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import DefaultScope
from mmengine.utils import import_modules_from_strings
from mmpretrain.registry import MODELS
from PIL import Image

import saim_mm

PRETRAIN = ROOT / 'configs/pretrain'
BIG = PRETRAIN / 'saim_vit-base-p16_32xb64-amp-coslr-300e_in1k.py'
MINI = PRETRAIN / 'saim_vit-tiny-p4_1xb512-amp-coslr-400e_cifar10.py'
NO_BLUR = {'target_generator.kernel_size': None}

#: What differs from SAIM, as in Tab. 3 and 4 of the paper.
ABLATIONS = {
    'vit-igpt': {'order': 'raster', 'neck.depth': 0, **NO_BLUR},
    'raster': {'order': 'raster', **NO_BLUR},
    'stochastic': NO_BLUR,
    'shared': {'neck.share_weights': True, **NO_BLUR},
    'depth-6': {'neck.depth': 6, **NO_BLUR},
    'depth-1': {'neck.depth': 1, **NO_BLUR},
    'blur-3-1': {'target_generator.kernel_size': 3},
    'blur-9-1.5': {'target_generator.sigma': 1.5},
    'l1': {'head.loss.criterion': 'L1', 'target_generator.normalize': False},
    'mse': {'target_generator.normalize': False},
    'linear-head': {'head.predictor': 'linear'},
    'transformer-head': {'head.predictor': 'transformer'},
    'pixels': {
        'order': 'raster',
        'neck.depth': 0,
        'backbone.patch_size': 1,
        'backbone.img_size': 32,
        'target_generator.normalize': False,
        **NO_BLUR,
    },
}


def flat(config, prefix=''):
    values = {}
    for key, value in config.items():
        if isinstance(value, (dict, ConfigDict)):
            values.update(flat(value, f'{prefix}{key}.'))
        else:
            values[prefix + key] = value
    return values


def ablation(base, name):
    found = re.fullmatch(r'(saim_vit-[a-z]+-p\d+)(_.*)', base.name).groups()
    return base.parent / 'ablations' / f'{found[0]}_{name}{found[1]}'


def test_every_ablation_is_there():
    files = {path.name for path in (PRETRAIN / 'ablations').iterdir()}
    expected = [
        ablation(b, name).name for b in (BIG, MINI) for name in ABLATIONS
    ]
    assert files == set(expected)


@pytest.mark.parametrize('base', [BIG, MINI], ids=['big', 'mini'])
@pytest.mark.parametrize('name', ABLATIONS)
def test_ablation_differs_in_what_it_says(name, base):
    ours = Config.fromfile(ablation(base, name))
    theirs = Config.fromfile(base)
    before, after = flat(theirs.pop('model')), flat(ours.pop('model'))
    changed = {k: v for k, v in after.items() if before.get(k) != v}
    expected = dict(ABLATIONS[name])
    if base == MINI:
        expected.pop('backbone.img_size', None)  # it is 32 already
    assert changed == expected
    assert set(before) <= set(after)
    if name == 'pixels' and base == BIG:
        crop = ours.train_dataloader.dataset.pipeline[0]
        assert crop.pop('scale') == 32
        theirs.train_dataloader.dataset.pipeline[0].pop('scale')
    for config in (ours, theirs):
        for key in ('train_pipeline', 'pipeline'):
            config.pop(key, None)
    assert ours.to_dict() == theirs.to_dict()
    model = Config.fromfile(ablation(base, name)).model
    model.backbone.arch = dict(TINY, num_layers=12)
    MODELS.build(model)


@pytest.mark.parametrize('base', [BIG, MINI], ids=['big', 'mini'])
def test_randsac_differs_in_its_segments(base):
    ours = Config.fromfile(rival('randsac', base))
    assert ours.model.pop('segment_size') == 2
    assert ours.to_dict() == Config.fromfile(base).to_dict()


@pytest.mark.parametrize('name', [*ABLATIONS, 'randsac'])
def test_ablation_trains(name):
    path = ablation(MINI, name) if name in ABLATIONS else rival(name)
    cfg = Config.fromfile(path)
    cfg.model.backbone.arch = dict(TINY, num_layers=12)
    if name == 'pixels':
        cfg.model.backbone.img_size = 8
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    size = cfg.model.backbone.img_size
    model.loss(torch.rand(2, 3, size, size))['loss'].backward()
    for parameter_name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad.isfinite().all(), parameter_name


@pytest.mark.parametrize('base', [BIG, MINI], ids=['big', 'mini'])
@pytest.mark.parametrize(
    'name, share', [('light', 0.64), ('light-width', 0.66)]
)
def test_light_decoder(name, share, base, monkeypatch):
    """It says how many FLOPs it takes, which is counted here."""
    monkeypatch.syspath_prepend('tools')
    from benchmarks.cost import flops_per_image

    found = re.fullmatch(r'(saim_vit-[a-z]+-p\d+)(_.*)', base.name).groups()
    path = base.parent / 'light' / f'{found[0]}_{name}{found[1]}'
    configs = Config.fromfile(path), Config.fromfile(base)
    if base == BIG:  # as many patches, a quarter of the work
        for cfg in configs:
            cfg.model.backbone.arch = 'deit-small'
    light, full = (flops_per_image(cfg)[1] for cfg in configs)
    assert light / full == pytest.approx(share, abs=0.02)
    with pytest.raises(ValueError, match='predict_ratio=0: must be a share'):
        MODELS.build(dict(configs[1].model, predict_ratio=0))


def rival(name, base=MINI):
    return PRETRAIN / 'baselines' / base.name.replace('saim', name, 1)


@pytest.mark.parametrize('name', ['mae', 'simmim', 'mocov3', 'supervised'])
def test_rival_trains_and_its_weights_are_ours(name, cifar, tmp_path):
    """Two steps on files; then a SAIMViT has the encoder, every weight."""
    cfg = Config.fromfile(rival(name))
    loader = cfg.train_dataloader
    loader.update(batch_size=8, num_workers=0, persistent_workers=False)
    loader.dataset.update(data_root=str(cifar / 'train'), indices=16)
    cfg.train_cfg.max_epochs = 1
    cfg.optim_wrapper.type = 'OptimWrapper'
    if name == 'supervised':
        cfg.model.head.num_classes = cfg.data_preprocessor.num_classes = 2
    cfg.work_dir = str(tmp_path)
    cfg.experiment_name = cfg.visualizer.name = f'rival-{name}'
    runner = saim_mm.SAIMRunner.from_cfg(cfg)
    runner.train()
    trained = runner.model.backbone.state_dict()
    own = saim_mm.SAIMViT(
        'deit-tiny',
        img_size=32,
        patch_size=4,
        init_cfg=dict(
            type='Pretrained',
            checkpoint=str(tmp_path / 'epoch_1.pth'),
            prefix='backbone.',
        ),
    )
    own.init_weights()
    for key, value in own.state_dict().items():
        assert torch.equal(value, trained[key]), key
    images = torch.rand(2, 3, 32, 32)
    runner.model.eval()
    own.eval()
    own.out_type = dict(mae='raw', simmim='featmap').get(name, 'cls_token')
    hidden = (None,) if name in ('mae', 'simmim') else ()
    theirs = runner.model.backbone(images, *hidden)
    theirs = theirs[-1] if isinstance(theirs, tuple) else theirs
    torch.testing.assert_close(own(images)[-1], theirs)


def test_simmim_sees_nothing_of_masked_patches():
    model = saim_mm.SimMIMViT(arch=TINY, img_size=32, patch_size=8)
    model.init_weights()
    model.eval()
    images = torch.rand(2, 3, 32, 32)
    mask = torch.zeros(2, 4, 4)
    mask[:, 1, 2] = 1
    before = model(images, mask)[0]
    assert before.shape == (2, TINY['embed_dims'], 4, 4)
    images[:, :, 8:16, 16:24] += 1
    assert torch.equal(model(images, mask)[0], before)
    images[:, :, :8, :8] += 1
    assert not torch.equal(model(images, mask)[0], before)


@pytest.fixture(scope='module')
def cifar(tmp_path_factory, photos):
    """Two classes of 32 x 32 pixels, as cifar10.py writes them."""
    root = tmp_path_factory.mktemp('cifar')
    for number, path in enumerate(sorted(photos.iterdir())):
        part = 'test' if number % 4 == 0 else 'train'
        name = 'temple' if path.name.startswith('0') else 'flower'
        folder = root / part / name
        folder.mkdir(parents=True, exist_ok=True)
        image = Image.open(path).resize((32, 32))
        image.save(folder / f'{number:04}.png')
    return root


def study(*arguments):
    return subprocess.run(
        [sys.executable, 'tools/study.py', *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )


@pytest.mark.slow
def test_study(cifar, tmp_path):
    """SAIM, MAE and from scratch; then one seed more of one."""
    common = ('--cpu', '--data', cifar, '--work-dir', tmp_path)
    done = study(MINI, rival('mae'), *common, '--seeds', 0, '--jobs', 2)
    assert done.returncode == 0, done.stdout + done.stderr
    table = (tmp_path / 'table.md').read_text()
    assert table in done.stdout
    rows = {
        line.split('|')[1].strip(): line.split('|')[2:-1]
        for line in table.splitlines()[2:]
    }
    assert set(rows) == {'saim', 'mae', 'scratch'}
    flops = {name: float(row[1]) for name, row in rows.items()}
    assert flops['saim'] > flops['mae'] > flops['scratch'] == 0
    for row in rows.values():
        for accuracy in row[3:]:
            assert 20 < float(accuracy) <= 100
    assert (tmp_path / 'study.png').stat().st_size > 10_000
    results = tmp_path / 'mae/seed-0/results.json'
    assert json.loads(results.read_text())['hours'] > 0

    written = results.stat().st_mtime_ns
    (tmp_path / 'mae/seed-1').mkdir()
    done = study(rival('mae'), *common, '--seeds', 0, 1)
    assert done.returncode == 0, done.stdout + done.stderr
    assert results.stat().st_mtime_ns == written  # not run again
    table = study('--table', '--work-dir', tmp_path).stdout
    assert re.search(r'\| mae \| 2 \|.*\d ± \d', table)

    other = tmp_path / MINI.name
    other.write_text(f"_base_ = ['{MINI}']\nmodel = dict(order='raster')\n")
    done = study(other, *common, '--seeds', 0)
    assert done.returncode == 1
    assert 'saim, seed 0: FAILED' in done.stdout
    log = (tmp_path / 'saim/seed-0/log.txt').read_text()
    assert 'are of another config than this; take another' in log


def test_transfer_takes_the_encoder(monkeypatch, tmp_path):
    """The models of --transfer have every weight of a CIFAR checkpoint."""
    pytest.importorskip('mmseg')
    monkeypatch.syspath_prepend('tools')
    study = runpy.run_path('tools/study.py')
    encoder = ConfigDict(arch=TINY, patch_size=4)
    own = saim_mm.SAIMViT(TINY, img_size=32, patch_size=4)
    own.init_weights()
    path = tmp_path / 'pretrained.pth'
    weights = {f'backbone.{k}': v for k, v in own.state_dict().items()}
    torch.save(dict(state_dict=weights), path)
    for stage, scope, sizes in (
        ('camvid', 'mmseg', [64, 32, 16, 8]),
        ('bccd', 'mmdet', [32, 16, 8]),
    ):
        cfg = study['transfer'](stage, 0, encoder, path)
        import_modules_from_strings(**cfg.custom_imports)
        with DefaultScope.overwrite_default_scope(scope):
            model = ROOT_MODELS.build(cfg.model)
            model.init_weights()
            for key, value in model.backbone.layers.state_dict().items():
                assert torch.equal(value, weights[f'backbone.layers.{key}'])
            maps = model.extract_feat(torch.rand(1, 3, 96, 128))
        assert [x.shape[-1] for x in maps] == sizes


def test_study_says_what_is_wrong(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend('tools')

    def refused(*arguments):
        monkeypatch.setattr(sys, 'argv', ['study.py', *map(str, arguments)])
        with pytest.raises(SystemExit) as exit:
            runpy.run_path('tools/study.py', run_name='__main__')
        assert exit.value.code == 2
        return capsys.readouterr().err

    message = refused('--cpu', '--data', tmp_path, '--work-dir', tmp_path)
    assert f'--data {tmp_path}: must hold the folders train and' in message
    assert 'no.py: no such file' in refused('no.py', '--cpu')
    assert '--budget and --jobs must be' in refused('--cpu', '--budget', 0)
    assert '--seeds must be different' in refused('--cpu', '--seeds', 0, 0)
    table = ('--table', '--work-dir', tmp_path / 'no')
    assert 'no: no such folder' in refused(*table)
    if not torch.cuda.is_available():
        assert '--cpu runs the reduced form' in refused()
