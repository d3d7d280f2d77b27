"""The baselines train, and the study compares them with SAIM."""

import json
import re
import runpy
import subprocess
import sys

import pytest
import torch
from helpers import ROOT, TINY
from matplotlib.text import Text
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.registry import MODELS, DefaultScope
from PIL import Image

import saim_mm
from saim_mm.engine.checks import device
from saim_mm.evaluation.knn import evaluate

STUDY = ROOT / 'tools/study'
PRETRAIN = ROOT / 'configs/pretrain'
FORMS = {
    'tiny': ('deit-tiny', 'saim_vit-tiny-p4_1xb512-amp-coslr-400e_cifar10.py'),
    'mini': ('saim-mini', 'saim_vit-mini-p4_1xb128-coslr-20e_cifar10.py'),
}
MINI = PRETRAIN / FORMS['mini'][1]
FINETUNE = ROOT / (
    'configs/classification/vit-mini-p4_1xb128-coslr-5e_cifar10.py'
)


def baseline(name, form='mini'):
    file = FORMS[form][1].replace('saim', name, 1)
    return PRETRAIN / 'baselines' / file


@pytest.mark.parametrize(
    'form', ['mini', pytest.param('tiny', marks=pytest.mark.slow)]
)
@pytest.mark.parametrize('name', ['mae', 'simmim', 'mocov3', 'supervised'])
def test_baseline_trains_and_its_weights_are_ours(
    name, form, cifar, tmp_path, monkeypatch
):
    """Two steps on files; then a SAIMViT has the encoder, every weight."""
    monkeypatch.chdir(cifar)
    cfg = Config.fromfile(baseline(name, form))
    loader = cfg.train_dataloader
    loader.update(batch_size=8, num_workers=0, persistent_workers=False)
    loader.dataset.indices = 16
    cfg.train_cfg.max_epochs = 1
    cfg.optim_wrapper.type = 'OptimWrapper'
    if name == 'supervised':
        cfg.model.head.num_classes = cfg.data_preprocessor.num_classes = 2
    cfg.work_dir = str(tmp_path)
    cfg.experiment_name = cfg.visualizer.name = f'{form}-{name}'
    runner = saim_mm.SAIMRunner.from_cfg(cfg)
    runner.train()
    trained = runner.model.backbone.state_dict()
    own = saim_mm.SAIMViT(
        FORMS[form][0],
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
    with pytest.raises(ValueError, match='without window_size and use_rel'):
        saim_mm.SimMIMViT(
            arch=TINY, img_size=32, patch_size=8, use_rel_pos=True
        )
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


def test_simmims_token_is_the_checkpoints(tmp_path):
    """It was drawn anew over what had been loaded."""
    options = dict(arch=TINY, img_size=32, patch_size=8)
    source = saim_mm.SimMIMViT(**options)
    source.init_weights()
    assert 0.005 < source.mask_token.std() < 0.05
    path = tmp_path / 'x.pth'
    torch.save(source.state_dict(), path)
    config = dict(type='Pretrained', checkpoint=str(path))
    model = saim_mm.SimMIMViT(**options, init_cfg=config)
    for _ in range(2):
        model.init_weights()
        for name, value in model.state_dict().items():
            assert torch.equal(value, source.state_dict()[name]), name


@pytest.fixture(scope='module')
def cifar(tmp_path_factory, photos):
    """A folder with data/cifar10: two classes, as cifar10.py writes them."""
    root = tmp_path_factory.mktemp('cifar')
    for number, path in enumerate(sorted(photos.iterdir())):
        part = 'test' if number % 4 == 0 else 'train'
        name = 'temple' if path.name.startswith('0') else 'flower'
        folder = root / 'data/cifar10' / part / name
        folder.mkdir(parents=True, exist_ok=True)
        image = Image.open(path).resize((32, 32))
        image.save(folder / f'{number:04}.png')
    return root


#: Two epochs on the few images there are.
OPTIONS = {
    'train_cfg.max_epochs': 2,
    'param_scheduler.1.end': 2,
    'train_dataloader.batch_size': 8,
    'train_dataloader.num_workers': 0,
    'train_dataloader.persistent_workers': False,
}


@pytest.fixture
def finetune(tmp_path):
    """A downstream config for the few images there are."""
    cfg = Config.fromfile(FINETUNE)
    cfg.merge_from_dict(OPTIONS)
    cfg.model.head.num_classes = cfg.data_preprocessor.num_classes = 2
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False, batch_size=8)
    cfg.dump(tmp_path / 'finetune.py')
    return tmp_path / 'finetune.py'


@pytest.fixture
def arm(monkeypatch):
    monkeypatch.syspath_prepend(STUDY)
    import arm

    return arm


def test_an_arm_goes_on_where_it_stopped(
    arm, cifar, finetune, tmp_path, monkeypatch
):
    monkeypatch.chdir(cifar)
    folder = tmp_path / 'saim/seed-0'
    folder.mkdir(parents=True)
    arguments = (folder, 'saim', MINI, 0, finetune)
    arm.run(*arguments, {}, OPTIONS)
    results = json.loads((folder / 'results.json').read_text())
    assert results['flops'] > 0 and results['hours'] > 0
    assert set(results['accuracy']) == set(arm.READOUTS)
    checkpoint = folder / 'pretrain/epoch_2.pth'
    written = checkpoint.stat().st_mtime_ns

    # The tool for nearest neighbours finds what the study found.
    start = arm.Start(checkpoint, 4)
    metrics, *_ = evaluate(arm.prepare(finetune, 0, start))
    assert results['accuracy']['knn/cls_token'] == pytest.approx(
        float(metrics['accuracy/top1'])
    )

    arm.run(*arguments, dict(mine=finetune), OPTIONS)
    after = json.loads((folder / 'results.json').read_text())
    assert 0 <= after['accuracy'].pop('mine') <= 100
    del after['configs']['mine']
    wrapper = after['optim_wrappers'].pop('mine')
    assert after == results and checkpoint.stat().st_mtime_ns == written
    assert not list((folder / 'mine').glob('*.pth'))

    with pytest.raises(ValueError, match="of another config of 'pretrain'"):
        arm.run(*arguments, {}, {**OPTIONS, 'model.order': 'raster'})
    # On a CPU of the other kind it would go on in another precision.
    has_bfloat16 = wrapper == 'BFloat16OptimWrapper'
    assert results['optim_wrappers'] == dict(pretrain=wrapper)
    after['optim_wrappers']['mine'] = wrapper  # begun, not ended
    (folder / 'results.json').write_text(json.dumps(after))
    with monkeypatch.context() as machine:
        machine.setattr(device, 'cpu_has_bfloat16', lambda: not has_bfloat16)
        with pytest.raises(ValueError, match=f"'mine' was begun .* {wrapper}"):
            arm.run(*arguments, dict(mine=finetune), OPTIONS)
    checkpoint.unlink()
    with pytest.raises(ValueError, match='pretrain: has no checkpoint'):
        arm.run(*arguments, {}, OPTIONS)


def test_what_is_noted_is_of_the_last_weights(arm, monkeypatch, tmp_path):
    """Not what the log has of an epoch before an interruption."""

    class Resumed:
        message_hub = MessageHub('resumed')
        message_hub.update_scalar('val/accuracy/top1', 40.0)

        def val(self):
            return {'accuracy/top1': 50.0}

    monkeypatch.setattr(arm, 'train', lambda *_: Resumed())
    metric = arm.train_and_test(None, tmp_path, 'accuracy/top1', None)
    assert metric == 50


@pytest.mark.parametrize('readout', ['attentive', 'efficient'])
def test_learned_readouts_train_and_the_encoder_does_not(
    arm, cifar, readout, tmp_path, monkeypatch
):
    monkeypatch.chdir(cifar)
    name = f'vit-mini-p4_1xb128-{readout}-coslr-5e_cifar10.py'
    cfg = Config.fromfile(ROOT / 'configs/classification' / name)
    loader = cfg.train_dataloader
    loader.update(batch_size=8, num_workers=0, persistent_workers=False)
    cfg.train_cfg.max_epochs = 1
    cfg.work_dir = str(tmp_path)
    cfg.experiment_name = cfg.visualizer.name = f'probe-{readout}'
    cfg.model.backbone.init_cfg = None
    cfg.model.head.num_classes = cfg.data_preprocessor.num_classes = 2
    cfg.val_dataloader.update(num_workers=0, persistent_workers=False)
    states = []

    def keep(runner):
        states.append(
            {k: v.clone() for k, v in runner.model.state_dict().items()}
        )

    hook = Hook()
    hook.before_train = hook.after_train = keep
    runner = saim_mm.SAIMRunner.from_cfg(cfg)
    runner.register_hook(hook)
    runner.train()
    before, after = states
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    assert not [k for k in changed if k.startswith('backbone.')]
    assert {'neck.0.query', 'neck.0.value.weight', 'head.fc.weight'} <= changed
    assert 0 <= runner.message_hub.get_scalar('val/accuracy/top1').current()


def test_from_scratch_differs_in_where_it_starts(arm, finetune):
    """Nothing else of a downstream config is touched."""
    cfg = Config.fromfile(FINETUNE)
    pretrained = arm.prepare(FINETUNE, 3, arm.Start('a.pth', 4))
    scratch = arm.prepare(FINETUNE, 3, arm.Start())
    assert pretrained.model.backbone.init_cfg.pop('checkpoint') == 'a.pth'
    assert cfg.model.backbone.init_cfg.pop('checkpoint') != 'a.pth'
    cfg.randomness.seed = 3
    assert pretrained.to_dict() == cfg.to_dict()
    assert scratch.model.backbone.pop('init_cfg') is None
    del cfg.model.backbone.init_cfg
    assert scratch.to_dict() == cfg.to_dict()
    # The larger ViT is fine-tuned with rates that decay, unless from scratch.
    tiny = ROOT / (
        'configs/classification/vit-tiny-p4_1xb256-amp-coslr-100e_cifar10.py'
    )
    rates = [
        arm.prepare(tiny, 0, start).optim_wrapper.paramwise_cfg
        for start in (arm.Start('a.pth', 4), arm.Start())
    ]
    assert [x.layer_decay_rate for x in rates] == [0.65, 1.0]
    # Pixels as tokens are fine-tuned as such.
    pixels = arm.prepare(FINETUNE, 3, arm.Start('a.pth', 1))
    assert pixels.model.backbone.patch_size == 1


@pytest.mark.parametrize(
    'config, sizes',
    [
        (
            'segmentation/saim-vit-{}-p4_upernet_1xb8-600i_camvid-240x320.py',
            [64, 32, 16, 8],
        ),
        (
            'detection/faster-rcnn_saim-vit-{}-p4_vitdet_1xb4-coslr-12e_'
            'bccd.py',
            [32, 16, 8],
        ),
    ],
    ids=['camvid', 'bccd'],
)
@pytest.mark.parametrize('form', FORMS)
def test_transfer_takes_the_encoder(arm, form, config, sizes, tmp_path):
    """Models for other tasks have every weight of CIFAR-10's checkpoint."""
    pytest.importorskip('mmseg' if 'segment' in config else 'mmdet')
    own = saim_mm.SAIMViT(FORMS[form][0], img_size=32, patch_size=4)
    own.init_weights()
    path = tmp_path / 'pretrained.pth'
    weights = {f'backbone.{k}': v for k, v in own.state_dict().items()}
    torch.save(dict(state_dict=weights), path)
    start = arm.Start(path, 4)
    cfg = arm.prepare(ROOT / 'configs' / config.format(form), 0, start)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
        model.init_weights()
        for key, value in model.backbone.layers.state_dict().items():
            if 'rel_pos' not in key:
                assert torch.equal(value, weights[f'backbone.layers.{key}'])
        maps = model.extract_feat(torch.rand(1, 3, 96, 128))
    assert [x.shape[-1] for x in maps] == sizes


def study(folder, *arguments, script='run'):
    return subprocess.run(
        [sys.executable, STUDY / f'{script}.py', *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=folder,
    )


@pytest.mark.slow
def test_study(cifar, finetune, tmp_path):
    """SAIM, MAE and from scratch; then one seed more of one."""
    work_dir = tmp_path / 'study'
    common = (
        *('--form', 'mini', '--frozen', finetune),
        *('--downstream', f'finetune={finetune}', '--work-dir', work_dir),
        *('--cfg-options', *(f'{k}={v}' for k, v in OPTIONS.items())),
    )
    done = study(cifar, MINI, baseline('mae'), *common, '--seeds', 0)
    assert done.returncode == 0, done.stdout + done.stderr
    table = (work_dir / 'table.md').read_text()
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
    assert (work_dir / 'study.png').stat().st_size > 10_000

    results = work_dir / 'mae/seed-0/results.json'
    written = json.loads(results.read_text())
    (work_dir / 'mae/seed-1').mkdir()
    done = study(cifar, baseline('mae'), *common, '--seeds', 0, 1)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(results.read_text()) == written  # not run again
    table = study(cifar, work_dir, script='table').stdout
    assert re.search(r'\| mae \| 2 \|.*\d ± \d', table)

    other = tmp_path / MINI.name
    other.write_text(f"_base_ = ['{MINI}']\nmodel = dict(order='raster')\n")
    done = study(cifar, other, *common, '--seeds', 0)
    assert done.returncode == 1
    assert 'saim, seed 0: FAILED' in done.stdout
    log = (work_dir / 'saim/seed-0/log.txt').read_text()
    assert "are of another config of 'pretrain'" in log


def test_the_first_row_has_no_plot(tmp_path, monkeypatch):
    """From scratch comes first, and costs nothing."""
    monkeypatch.syspath_prepend(STUDY)
    from table import report

    results = dict(name='scratch', seed=0, accuracy=dict(finetune=45.0))
    (tmp_path / 'scratch/seed-0').mkdir(parents=True)
    (tmp_path / 'scratch/seed-0/results.json').write_text(
        json.dumps({**results, 'flops': 0, 'hours': 0})
    )
    assert '| scratch | 1 | 0 | 0.00 | 45.0 |' in report(tmp_path)
    assert [x.name for x in tmp_path.glob('*.*')] == ['table.md']


RESULTS = sorted((STUDY / 'results').glob('*/*/seed-*/results.json'))


@pytest.mark.parametrize(
    'path', RESULTS, ids=lambda path: '-'.join(path.parts[-4:-1])
)
def test_results_are_of_the_configs_that_are_here(arm, path, monkeypatch):
    """All stages; whoever changes a config takes its results out."""
    from run import CONFIGS, FORMS, name_of

    images, name, seed = path.parts[-4:-1]
    results = json.loads(path.read_text())
    assert (results['name'], f'seed-{results["seed"]}') == (name, seed)
    forms = dict(cifar10='mini', fashion_mnist='fashion')
    pattern, frozen, downstream = FORMS[forms[images]]
    classification = CONFIGS / 'classification'
    start, hashes = arm.Start(), {}
    if name != 'scratch':
        [config] = (
            found
            for found in (CONFIGS / 'pretrain').rglob(pattern)
            if name_of(found) == name
        )
        cfg = Config.fromfile(config)
        cfg.merge_from_dict({'randomness.seed': results['seed']})
        start = arm.Start('a checkpoint', cfg.model.backbone.patch_size)
        hashes['pretrain'] = arm.fingerprint(cfg, 'pretrain')
    for stage, file in dict(frozen=frozen, **downstream).items():
        cfg = arm.prepare(classification / file, results['seed'], start)
        hashes[stage] = arm.fingerprint(cfg, stage)
    assert results['configs'] == hashes
    assert set(results['accuracy']) == {*arm.READOUTS, *downstream}


def test_differences_are_of_the_same_seeds(tmp_path, monkeypatch):
    """By hand: 1, 3 and 5, so 3 and 2 / sqrt(3); a seed that one lacks."""
    monkeypatch.syspath_prepend(STUDY)
    from table import differences

    for name, values in dict(
        mae={0: 40.0, 1: 50.0, 2: 60.0, 3: 99.0},
        saim={0: 41.0, 1: 53.0, 2: 65.0},
        late={2: 61.5},
        begun={0: None},
    ).items():
        for seed, value in values.items():
            folder = tmp_path / name / f'seed-{seed}'
            folder.mkdir(parents=True)
            accuracy = {} if value is None else dict(mine=value)
            results = dict(name=name, seed=seed, accuracy=accuracy)
            (folder / 'results.json').write_text(json.dumps(results))
    assert differences(tmp_path, 'mae').splitlines()[::2] == [
        '| minus mae | seeds | mine |',
        '| late | 1 | +1.5 |',
    ]
    assert '| saim | 3 | +3.0 ± 1.2 |' in differences(tmp_path, 'mae')
    with pytest.raises(ValueError, match="no: must be one of .*'saim'"):
        differences(tmp_path, 'no')


def test_the_plot_names_what_matters(tmp_path, monkeypatch):
    """Every named point has its name, and none lies on another."""
    monkeypatch.syspath_prepend(STUDY)
    from plot import plot
    from table import collect, report

    methods = dict(  # FLOPs, fine-tuned; what costs as much is crowded
        scratch=(0, 45.5),
        saim=(20e12, 47.5),
        stochastic=(20e12, 47.6),
        raster=(20e12, 47.4),
        randsac=(20e12, 47.5),
        l1=(20e12, 47.2),
        mae=(6e12, 46.0),
        mocov3=(26e12, 44.4),
        light=(13e12, 46.5),
    )
    methods['depth-1'] = (12e12, 46.3)
    methods['mine'] = (14e12, 46.2)
    for number, (name, (flops, accuracy)) in enumerate(methods.items()):
        for seed in range(2):
            values = dict(finetune=accuracy + seed / 5, efficient=50 + number)
            results = dict(name=name, seed=seed, accuracy=values)
            results.update(flops=flops, hours=flops / 1e14)
            folder = tmp_path / name / f'seed-{seed}'
            folder.mkdir(parents=True)
            (folder / 'results.json').write_text(json.dumps(results))
    report(tmp_path)
    assert (tmp_path / 'study.png').stat().st_size > 10_000

    figure = plot(collect(tmp_path))
    figure.draw_without_rendering()  # puts the names in their places
    assert len(figure.axes) == 4  # two measures, FLOPs and hours
    named = {'SAIM', 'SAIM, no blur', 'raster order, no blur', 'RandSAC'}
    named |= {'MAE', 'MoCo v3', 'light', 'not pre-trained'}
    for axis, on_front in zip(figure.axes, [['depth-1']] * 2 + [['mine']] * 2):
        texts = {text.get_text(): text for text in axis.texts}
        assert named <= set(texts)
        assert set(on_front) <= set(texts) - named, set(texts)
        assert 'l1' not in texts
        boxes = [Text.get_window_extent(text) for text in texts.values()]
        for number, box in enumerate(boxes):
            assert not box.count_overlaps(boxes[:number]), list(texts)[number]
            assert axis.bbox.contains(*box.min), list(texts)[number]
            assert axis.bbox.contains(*box.max), list(texts)[number]
    headings = {text.get_text() for text in figure.legends[0].get_texts()}
    assert {'SAIM', 'ablations', 'other methods'} <= headings

    for path in tmp_path.glob('*/*/results.json'):
        results = {**json.loads(path.read_text()), 'hours': 0}
        path.write_text(json.dumps(results))
    assert len(plot(collect(tmp_path)).axes) == 2  # FLOPs alone


def test_study_says_what_is_wrong(arm, cifar, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def refused(*arguments, script='run'):
        monkeypatch.setattr(sys, 'argv', ['run.py', *map(str, arguments)])
        with pytest.raises(SystemExit) as exit:
            runpy.run_path(str(STUDY / f'{script}.py'), run_name='__main__')
        assert exit.value.code == 2
        return capsys.readouterr().err

    message = refused(MINI)
    assert "data_root='data/cifar10/train' must be a folder" in message
    assert str(tmp_path) in message
    assert 'tools/dataset_converters' in message
    assert 'no.py: no such file' in refused('no.py')
    assert 'no.py: no such file' in refused('--downstream', 'a=no.py')
    for words in (['attentive=a.py'], ['frozen=a.py'], ['a=a.py', 'a=b.py']):
        message = refused('--downstream', *words)
        assert 'the name of another column or stage' in message
    assert 'a.py: must be NAME=CONFIG' in refused('--downstream', 'a.py')
    assert '--jobs 0: must be positive' in refused('--jobs', 0)
    assert '--seeds must be different' in refused('--seeds', 0, 0)
    assert "2 configs are called 'saim'" in refused(MINI, MINI)
    assert 'no: no such folder' in refused(tmp_path / 'no', script='table')
