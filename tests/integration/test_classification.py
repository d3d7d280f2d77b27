"""Fine-tuning, probing and neighbours: recipes, runs, bad input."""

import runpy
import shutil
import sys
from collections import OrderedDict

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS, DefaultScope
from mmpretrain.registry import MODELS

from saim_mm import SAIMRunner
from saim_mm.evaluation.knn import evaluate

FOLDER = 'configs/classification/'
FINETUNE = f'{FOLDER}vit-{{}}-p16_8xb128-amp-coslr-100e_in1k.py'
LINEAR = f'{FOLDER}vit-base-p16_8xb256-linear-coslr-90e_in1k.py'
LARS = f'{FOLDER}vit-base-p16_8xb2048-linear-lars-coslr-90e_in1k.py'
IN1K = 'configs/pretrain/saim_vit-base-p16_32xb64-amp-coslr-300e_in1k.py'
MINI = 'configs/pretrain/saim_vit-mini-p4_1xb128-coslr-20e_cifar10.py'
MINI_FINETUNE = f'{FOLDER}vit-mini-p4_1xb128-coslr-5e_cifar10.py'
MINI_LINEAR = f'{FOLDER}vit-mini-p4_1xb128-linear-coslr-5e_cifar10.py'


@pytest.mark.parametrize('arch', ['base', 'large'])
def test_finetuning_is_table_7(arch):
    cfg = Config.fromfile(FINETUNE.format(arch))
    assert 8 * cfg.train_dataloader.batch_size == 1024
    assert cfg.auto_scale_lr.base_batch_size == 1024
    assert cfg.train_cfg.max_epochs == 100
    warm_up, cosine = cfg.param_scheduler
    assert (warm_up.end, cosine.begin, cosine.end) == (20, 20, 100)
    assert 'T_max' not in cosine  # the whole way, from begin to end
    assert cfg.model.head.loss.label_smooth_val == 0.1
    mixup, cutmix = cfg.model.train_cfg.augments
    assert (mixup.type, mixup.alpha) == ('Mixup', 0.8)
    assert (cutmix.type, cutmix.alpha) == ('CutMix', 1.0)
    pipeline = {t.type: t for t in cfg.train_dataloader.dataset.pipeline}
    augment = pipeline['RandAugment']
    assert (augment.magnitude_level, augment.magnitude_std) == (9, 0.5)
    assert pipeline['RandomErasing'].erase_prob == 0.25

    cfg.model.backbone.init_cfg = None
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    depth = 24 if arch == 'large' else 12
    assert model.backbone.num_layers == depth
    assert model.backbone.out_type == 'cls_token'
    last = model.backbone.layers[-1]
    assert last.drop_path.drop_prob == pytest.approx(0.1)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    assert isinstance(optimizer, torch.optim.AdamW)
    names = {p: name for name, p in model.named_parameters()}
    for group in optimizer.param_groups:
        assert group['betas'] == (0.9, 0.99)
        for parameter in group['params']:
            name = names.pop(parameter)
            if name.startswith(('backbone.ln1', 'head.')):
                power = 0
            elif name.startswith('backbone.layers.'):
                power = depth - int(name.split('.')[2])
            else:
                power = depth + 1
            rate = 5e-4 * 1024 / 256 * 0.65**power
            assert group['lr'] == pytest.approx(rate), name
            plain = parameter.ndim == 1 or name in (
                'backbone.cls_token',
                'backbone.pos_embed',
            )
            assert group['weight_decay'] == (0 if plain else 0.05), name
    assert not names
    assert len(optimizer.param_groups) < 4 * (depth + 2)

    # To the end: MAE decays the last rate with the block, too.
    rates = 2e-3, 2e-3 * 0.65 ** (depth + 1)
    last = torch.optim.SGD([dict(params=torch.ones(1), lr=r) for r in rates])
    schedulers = [
        PARAM_SCHEDULERS.build(
            x, default_args=dict(optimizer=last, epoch_length=5)
        )
        for x in cfg.param_scheduler
    ]
    for _ in range(5 * 100):
        last.step()
        for scheduler in schedulers:
            scheduler.step()
    for group, rate in zip(last.param_groups, rates):
        assert group['lr'] == pytest.approx(1e-6 * rate / 2e-3, rel=0.05)


@pytest.mark.parametrize('path', [LINEAR, LARS])
def test_linear_probing_trains_the_last_layer_only(path):
    cfg = Config.fromfile(path)
    lars = path is LARS
    batch = 8 * cfg.train_dataloader.batch_size
    assert batch == cfg.auto_scale_lr.base_batch_size
    assert batch == (16384 if lars else 2048)
    assert cfg.train_cfg.max_epochs == 90
    assert [s.type for s in cfg.param_scheduler] == ['LinearLR'] * lars + [
        'CosineAnnealingLR'
    ]
    crop, resize = (  # of both pipelines, the steps that resize
        loader.dataset.pipeline[1]
        for loader in (cfg.train_dataloader, cfg.val_dataloader)
    )
    assert (crop.type, resize.type) == ('RandomResizedCrop', 'ResizeEdge')
    assert crop.interpolation == resize.interpolation == 'bicubic'
    cfg.model.backbone.init_cfg = None
    with torch.device('meta'):
        model = MODELS.build(cfg.model).train()
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {'head.fc.weight', 'head.fc.bias'}
    assert not model.neck.bn.affine and model.neck.bn.eps == 1e-6
    assert model.neck.bn.training
    assert not any(layer.training for layer in model.backbone.layers)
    (group,) = build_optim_wrapper(
        model, cfg.optim_wrapper
    ).optimizer.param_groups
    assert group['lr'] == pytest.approx(0.1 * batch / 256)
    assert (group['momentum'], group['weight_decay']) == (0.9, 0)


@pytest.mark.parametrize('percent', [1, 10])
def test_semi_supervised(percent):
    cfg = Config.fromfile(
        FINETUNE.format('base').replace('.py', f'-{percent}percent.py')
    )
    dataset = cfg.train_dataloader.dataset
    assert dataset.ann_file == f'meta/train_{percent}percent.txt'
    assert cfg.val_dataloader.dataset.get('ann_file', '') == ''


@pytest.fixture(scope='module')
def classes(photos, tmp_path_factory):
    """Tiles of two photographs: two classes."""
    root = tmp_path_factory.mktemp('classes')
    for number, path in enumerate(sorted(photos.iterdir())):
        part = 'test' if number % 4 == 0 else 'train'
        label = 'temple' if path.name.startswith('0') else 'flower'
        target = root / part / label
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target / path.name)
    return root


def config(path, root, work_dir, epochs=1, **options):
    cfg = Config.fromfile(path)
    cfg.merge_from_dict(
        {
            'work_dir': str(work_dir),
            'experiment_name': f'{work_dir.parent.name}_{work_dir.name}',
            'train_cfg.max_epochs': epochs,
            'param_scheduler': None,
            'default_hooks.checkpoint.interval': epochs,
            'train_dataloader.batch_size': 20,
            'train_dataloader.num_workers': 0,
            'train_dataloader.persistent_workers': False,
            **options,
        }
    )
    if 'pretrain' in path:
        cfg.train_dataloader.dataset.data_root = str(root / 'train')
        return cfg
    cfg.train_dataloader.dataset.data_root = str(root)
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.data_root = str(root)
        loader.update(num_workers=0, persistent_workers=False, batch_size=20)
        # Photographs here are not of CIFAR-10's size.
        loader.dataset.pipeline.insert(1, dict(type='Resize', scale=32))
    cfg.train_dataloader.dataset.pipeline.insert(
        1, dict(type='Resize', scale=32)
    )
    cfg.model.head.num_classes = 2
    return cfg


@pytest.fixture(scope='module')
def checkpoint(classes, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('pretrain') / 'run'
    SAIMRunner.from_cfg(config(MINI, classes, work_dir, epochs=2)).train()
    return work_dir / 'epoch_2.pth'


@pytest.mark.parametrize('path', [MINI_FINETUNE, MINI_LINEAR])
def test_train_on_class_folders(classes, checkpoint, tmp_path, path):
    options = {'model.backbone.init_cfg.checkpoint': str(checkpoint)}
    epochs = 5 if path is MINI_FINETUNE else 20
    cfg = config(path, classes, tmp_path / 'run', epochs, **options)
    runner = SAIMRunner.from_cfg(cfg)
    runner.train()
    before = torch.load(checkpoint, weights_only=False)['state_dict']
    after = runner.model.state_dict()
    name = 'backbone.layers.3.attn.qkv.weight'
    assert torch.equal(before[name], after[name]) == (path is MINI_LINEAR)
    accuracies, _ = runner.message_hub.get_scalar('val/accuracy/top1').data
    assert len(accuracies) == epochs and max(accuracies) > 80


def test_load_from(classes, checkpoint, tmp_path):
    """The other way that MMEngine knows gives the backbone as well."""
    options = {
        'model.backbone.init_cfg': None,
        'load_from': str(checkpoint),
    }
    cfg = config(MINI_LINEAR, classes, tmp_path / 'run', **options)
    runner = SAIMRunner.from_cfg(cfg)
    runner.load_or_resume()
    before = torch.load(checkpoint, weights_only=False)['state_dict']
    for name, value in runner.model.backbone.state_dict().items():
        assert torch.equal(value, before[f'backbone.{name}']), name


@pytest.mark.parametrize('way', ['test', 'val'])
def test_heads_that_do_not_fit(classes, tmp_path, way):
    """However a test is started: random weights would be tested."""
    options = {'model.backbone.init_cfg': None}
    cfg = config(MINI_FINETUNE, classes, tmp_path / 'run', **options)
    model = SAIMRunner.from_cfg(cfg).model
    cfg.load_from = str(tmp_path / 'x.pth')
    weights = model.state_dict()
    right = {**weights, 'ema.x': torch.ones(1)}  # more does not matter
    other = {**weights, 'head.fc.weight': torch.zeros(7, 96)}
    headless = {k: v for k, v in weights.items() if 'head' not in k}
    for number, (state, message) in enumerate(
        [
            (right, None),
            (other, r'x\.pth.*head\.fc\.weight.*num_classes.: 2'),
            (headless, r"x\.pth.*lacks \['head\.fc\.weight'"),
        ]
    ):
        torch.save(dict(state_dict=state), cfg.load_from)
        cfg.experiment_name = f'{tmp_path.name}_{way}_{number}'
        runner = SAIMRunner.from_cfg(cfg)
        if message is None:
            assert getattr(runner, way)()['accuracy/top1'] >= 0
            assert torch.equal(
                runner.model.head.fc.weight, weights['head.fc.weight']
            )
            continue
        with pytest.raises(ValueError, match=f'(?s){message}'):
            getattr(runner, way)()


def knn(monkeypatch, capsys, tmp_path, cfg, *arguments):
    cfg.dump(tmp_path / 'knn.py')
    # As in a new process: no scope is set.
    monkeypatch.setattr(DefaultScope, '_instance_dict', OrderedDict())
    command = ['knn.py', str(tmp_path / 'knn.py'), '--device', 'cpu']
    monkeypatch.setattr(sys, 'argv', command + [str(a) for a in arguments])
    runpy.run_path('tools/knn.py', run_name='__main__')
    return capsys.readouterr().out.strip().splitlines()[-1]


def test_knn(classes, checkpoint, tmp_path, monkeypatch, capsys):
    options = {'model.backbone.init_cfg.checkpoint': str(checkpoint)}
    cfg = config(MINI_FINETUNE, classes, tmp_path / 'run', **options)
    call = (monkeypatch, capsys, tmp_path, cfg)
    output = knn(*call, '--k', 5)
    assert '5-NN, 60 neighbours, 20 images: accuracy/top1' in output
    assert float(output.split()[-1]) > 70
    # The training images find themselves.
    cfg.test_dataloader.dataset.data_prefix = 'train'
    output = knn(*call, '--k', 1)
    assert '60 images: accuracy/top1 100.00' in output
    with pytest.raises(ValueError, match='k=61: must be 1 to 60'):
        knn(*call, '--k', 61)


@pytest.mark.parametrize('way', ['argument', 'init_cfg', 'whole'])
def test_knn_does_not_read_an_untrained_neck(
    classes, checkpoint, tmp_path, way
):
    """Of the backbone's checkpoint no neck is loaded, of the model's it is."""
    options = {'model.backbone.init_cfg.checkpoint': str(checkpoint)}
    cfg = config(MINI_FINETUNE, classes, tmp_path, **options)
    cfg.model.backbone.out_type = 'raw'
    cfg.model.neck = dict(type='EfficientProbing', embed_dims=96)
    if way == 'whole':
        cfg.model.backbone.init_cfg = None
        path = tmp_path / 'probe.pth'
        torch.save(MODELS.build(cfg.model).state_dict(), path)
        cfg.model.init_cfg = dict(type='Pretrained', checkpoint=str(path))
        assert evaluate(cfg, k=5, device='cpu')[1:] == (60, 20)
        return
    path = str(checkpoint) if way == 'argument' else None
    with pytest.raises(ValueError, match='readout=None.*neck has weights of'):
        evaluate(cfg, path, k=5, device='cpu')


def test_knn_takes_a_classification_config():
    message = 'test_dataloader=None: must be given.*tools/probe.py takes'
    with pytest.raises(ValueError, match=message):
        evaluate(Config.fromfile(IN1K), device='cpu')


def refused(error, cfg, message):
    with pytest.raises(error, match=message):
        SAIMRunner.from_cfg(cfg).train()


def test_classes_that_do_not_fit(classes, tmp_path):
    scratch = {'model.backbone.init_cfg': None}
    cfg = config(MINI_FINETUNE, classes, tmp_path / 'a', **scratch)
    cfg.model.head.num_classes = 10
    refused(ValueError, cfg, r'num_classes=10: must be 2.*\(flower, temple\)')
    one = tmp_path / 'one'
    shutil.copytree(classes, one)
    shutil.rmtree(one / 'train/flower')
    cfg = config(MINI_FINETUNE, one, tmp_path / 'b', **scratch)
    refused(ValueError, cfg, 'at least two classes.*temple')


def test_labels_that_are_mixed(classes, tmp_path):
    """Mixup makes them as long as the preprocessor says."""
    scratch = {'model.backbone.init_cfg': None}
    cfg = config(MINI_FINETUNE, classes, tmp_path / 'a', **scratch)
    cfg.model.train_cfg = dict(augments=[dict(type='Mixup', alpha=0.8)])
    cfg.model.head.loss = dict(type='LabelSmoothLoss', label_smooth_val=0.1)
    refused(
        ValueError, cfg, '^data_preprocessor.num_classes=10: must be 2, as'
    )
    cfg.data_preprocessor.num_classes = 2
    cfg.experiment_name += '_right'
    cfg.model.pop('data_preprocessor', None)
    SAIMRunner.from_cfg(cfg).train()


def test_a_last_batch_of_one_image(classes, tmp_path):
    """BatchNorm cannot train on it alone."""
    cfg = config(
        MINI_LINEAR,
        classes,
        tmp_path / 'a',
        **{
            'model.backbone.init_cfg': None,
            'train_dataloader.batch_size': 59,  # of 60 images
            'train_dataloader.drop_last': False,
        },
    )
    refused(
        ValueError,
        cfg,
        'drop_last=False: must be True.*the last of 60.*model.neck.bn has',
    )
    cfg.train_dataloader.drop_last = True
    cfg.experiment_name += '_right'
    SAIMRunner.from_cfg(cfg).train()


def test_a_list_with_a_file_that_is_missing(classes, tmp_path):
    lists = tmp_path / 'train.txt'
    names = sorted((classes / 'train').glob('*/*'))
    lines = [
        f'{n.parent.name}/{n.name} {int(n.parent.name == "temple")}'
        for n in names
    ]
    lists.write_text('\n'.join([*lines, 'temple/lost.jpg 1']))
    scratch = {'model.backbone.init_cfg': None}
    cfg = config(MINI_FINETUNE, classes, tmp_path / 'a', **scratch)
    dataset = cfg.train_dataloader.dataset
    dataset.update(
        ann_file=str(lists), metainfo=dict(classes=['flower', 'temple'])
    )
    refused(FileNotFoundError, cfg, r'lost\.jpg: no such file.*train\.txt')


@pytest.mark.parametrize(
    'kind, error, message',
    [
        ('missing', FileNotFoundError, r'no\.pth.*init_cfg\.checkpoint'),
        ('resnet', ValueError, '0 % of the backbone.*convert.py'),
        ('width', ValueError, 'does not fit the backbone.*arch'),
    ],
)
def test_checkpoints_of_others(classes, tmp_path, kind, error, message):
    path = tmp_path / 'no.pth'
    if kind == 'resnet':
        other = MODELS.build(dict(type='ResNet', depth=18))
        weights = {f'backbone.{k}': v for k, v in other.state_dict().items()}
        torch.save(dict(state_dict=weights), path)
    elif kind == 'width':
        other = MODELS.build(
            dict(
                type='SAIMViT',
                arch=dict(
                    embed_dims=32,
                    num_layers=4,
                    num_heads=2,
                    feedforward_channels=64,
                ),
                img_size=32,
                patch_size=4,
            )
        )
        weights = {f'backbone.{k}': v for k, v in other.state_dict().items()}
        torch.save(dict(state_dict=weights), path)
    cfg = config(
        MINI_FINETUNE,
        classes,
        tmp_path / 'run',
        **{'model.backbone.init_cfg.checkpoint': str(path)},
    )
    refused(error, cfg, message)


def test_a_part_of_a_checkpoint_is_loaded_if_told_so(tmp_path):
    options = dict(type='SAIMViT', arch='deit-tiny', img_size=32, patch_size=4)
    model = MODELS.build(options)
    part = {
        k: v for k, v in model.state_dict().items() if k.startswith('layers.1')
    }  # blocks 1, 10 and 11 of 12
    with pytest.raises(ValueError, match='2. % of the backbone'):
        model.load_state_dict(part, strict=False)
    other = MODELS.build(dict(options, min_match_ratio=0))
    other.load_state_dict(part, strict=False)
    name = 'layers.11.attn.proj.weight'
    assert torch.equal(other.state_dict()[name], part[name])
