"""Every config builds and is what its name says; the paper's are the paper's.

Models are built on the meta device: all of their shapes and none of their
numbers, so that ViT-L takes a tenth of a second.
"""

import copy
import functools
import math
import re

import pytest
import torch
import yaml
from helpers import ROOT, TINY
from mmengine.config import Config, ConfigDict
from mmengine.optim import build_optim_wrapper
from mmengine.registry import (
    DATASETS,
    HOOKS,
    MODELS,
    PARAM_SCHEDULERS,
    TRANSFORMS,
    DefaultScope,
)
from torch._subclasses.fake_tensor import FakeTensorMode

from saim_mm.checkpoint.zoo import bundled
from saim_mm.engine.checks.config import check_config
from saim_mm.utils.flops import count_flops

CONFIGS = sorted(
    str(path.relative_to(ROOT))
    for path in (ROOT / 'configs').rglob('*.py')
    if '_base_' not in path.parts
)
PRETRAIN = 'configs/pretrain/'
IN1K = 'saim_vit-base-p16_32xb64-amp-coslr-300e_in1k.py'
TINY_CIFAR = 'saim_vit-tiny-p4_1xb512-amp-coslr-400e_cifar10.py'
MINI_CIFAR = 'saim_vit-mini-p4_1xb128-coslr-20e_cifar10.py'
MINI_FASHION = 'saim_vit-mini-p4_1xb128-coslr-20e_fashion-mnist.py'
FORMS = pytest.mark.parametrize(
    'base', [IN1K, TINY_CIFAR, MINI_CIFAR], ids=['in1k', 'tiny', 'mini']
)


@functools.cache
def _load(path):
    return Config.fromfile(path)


def load(path):
    """A config, to be changed."""
    for package in ('mmdet', 'mmseg'):
        if dict(mmdet='detection', mmseg='segmentation')[package] in path:
            pytest.importorskip(package)
    return copy.deepcopy(_load(path))


def scope(cfg):
    return DefaultScope.overwrite_default_scope(cfg.default_scope)


def known(registry, part):
    """Whether a part's type is registered, in the scope of its config."""
    with registry.switch_scope_and_registry(None) as scoped:
        return scoped.get(part.type) is not None


def build(cfg):
    """The model of a config, without any numbers."""
    with scope(cfg), torch.device('meta'):
        return MODELS.build(cfg.model)


def build_optimizer(model, cfg):
    """The optimizer of a config, for a model without numbers."""
    wrapper = copy.deepcopy(cfg.optim_wrapper)
    wrapper.type = 'OptimWrapper'  # float16 is refused without a GPU
    wrapper.optimizer.pop('fused', None)  # as is this without numbers
    with scope(cfg):
        return build_optim_wrapper(model, wrapper).optimizer


def variant(base, name, folder):
    """The config beside `base` of that name in its file name."""
    start, rest = re.fullmatch(r'(saim_vit-[a-z]+-p\d+)(_.*)', base).groups()
    return f'{PRETRAIN}{folder}/{start}_{name}{rest}'


def baseline(base, name):
    return f'{PRETRAIN}baselines/' + base.replace('saim', name, 1)


@functools.cache
def zoo():
    """Config -> what the zoo's lists say of it."""
    return {
        model['Config']: model['Metadata']
        for path in (ROOT / 'configs').glob('*/metafile.yml')
        for model in yaml.safe_load(path.read_text())['Models']
    }


@pytest.mark.parametrize('path', CONFIGS)
def test_config(path):
    """What it names exists, and its file name and the zoo do not lie."""
    cfg = load(path)
    check_config(cfg)
    model = build(cfg)
    build_optimizer(model, cfg)
    with scope(cfg):
        for part in ('train', 'val', 'test'):
            if loader := cfg.get(f'{part}_dataloader'):
                assert known(DATASETS, loader.dataset)
                for step in loader.dataset.get('pipeline', ()):
                    TRANSFORMS.build(step)
        assert all(known(HOOKS, x) for x in cfg.default_hooks.values())

    name = re.search(r'_(\d+)xb(\d+)(-.*)?-(\d+)(k|i|e)[_.]', path)
    gpus, batch, words, length, unit = name.groups()
    assert cfg.train_dataloader.batch_size == int(batch)
    assert cfg.auto_scale_lr.base_batch_size == int(gpus) * int(batch)
    if '-amp' in (words or ''):
        assert cfg.optim_wrapper.type in AMP
    key = 'max_epochs' if unit == 'e' else 'max_iters'
    length = int(length) * (1000 if unit == 'k' else 1)
    assert cfg.train_cfg[key] == length
    # One schedule after the other, until training ends.
    begin = 0
    for scheduler in cfg.param_scheduler:
        assert scheduler.begin == begin
        begin = scheduler.end
    assert begin == length

    if metadata := zoo().get(path):
        number = sum(p.numel() for p in model.parameters())
        assert metadata['Parameters'] == number
        assert metadata['Batch Size'] == int(gpus) * int(batch)
        epochs = 'Epochs' if unit == 'e' else 'Iterations'
        assert metadata[epochs] == length


AMP = ('BFloat16OptimWrapper', 'AmpOptimWrapper')


@pytest.mark.parametrize('folder', ['classification', 'detection', 'segment'])
def test_downstream_configs_are_short(folder):
    lengths = {
        path: len((ROOT / path).read_text().splitlines())
        for path in CONFIGS
        if path.startswith(f'configs/{folder}')
    }
    assert lengths
    assert not {p: n for p, n in lengths.items() if n > 40}


@pytest.mark.parametrize('epochs', [300, 800, 1600])
@pytest.mark.parametrize('arch', ['base', 'large'])
def test_pretraining_is_table_6(arch, epochs):
    cfg = load(
        f'{PRETRAIN}saim_vit-{arch}-p16_32xb64-amp-coslr-{epochs}e_in1k.py'
    )
    assert 32 * cfg.train_dataloader.batch_size == 2048

    crop, flip, _ = cfg.train_dataloader.dataset.pipeline  # and pack
    assert crop.type == 'LoadRandomResizedCrop' and crop.scale == 224
    assert crop.interpolation == 'bicubic'
    assert tuple(crop.crop_ratio_range) == (0.67, 1)
    assert tuple(crop.aspect_ratio_range) == (3 / 4, 4 / 3)
    assert flip.type == 'RandomFlip' and flip.prob == 0.5

    assert cfg.optim_wrapper.type == 'BFloat16OptimWrapper'
    assert 'clip_grad' not in cfg.optim_wrapper
    model = build(cfg)
    assert isinstance(model.order, MODELS.get('StochasticOrder'))
    assert model.neck.depth == len(model.backbone.layers)
    assert model.backbone.num_layers == (24 if arch == 'large' else 12)
    assert len(model.target_generator.kernel) == 9
    optimizer = build_optimizer(model, cfg)
    assert isinstance(optimizer, torch.optim.AdamW)
    names = {p: name for name, p in model.named_parameters()}
    for group in optimizer.param_groups:
        assert group['lr'] == pytest.approx(2e-4 * 2048 / 256)
        assert group['betas'] == (0.9, 0.95)
        for parameter in group['params']:
            name = names.pop(parameter)
            plain = name.endswith('.bias') or '.ln' in name
            assert group['weight_decay'] == (0 if plain else 0.05), name
    assert set(names.values()) == {'backbone.pos_embed'}

    # Warm-up over 30 epochs, then a half cosine to 0, step by step.
    per_epoch, peak = 10, 1.6e-3
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=peak)
    schedulers = [
        PARAM_SCHEDULERS.build(
            x, default_args=dict(optimizer=optimizer, epoch_length=per_epoch)
        )
        for x in cfg.param_scheduler
    ]
    steps = epochs * per_epoch
    for step in range(steps):
        rate = optimizer.param_groups[0]['lr']
        if step < 30 * per_epoch:
            expected = peak * step / (30 * per_epoch)
        else:
            done = (step - 30 * per_epoch) / (steps - 30 * per_epoch)
            expected = peak * 0.5 * (1 + math.cos(math.pi * done))
        # MMEngine's warm-up ends a step early and starts above zero.
        assert rate == pytest.approx(
            expected, abs=1.01 * peak / 30 / per_epoch
        )
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    assert optimizer.param_groups[0]['lr'] < 1e-3 * peak


NO_BLUR = {'target_generator.kernel_size': None}
#: What differs from SAIM, as in Tab. 3 and 4 of the paper. Half the depth is
#: of 12 blocks; the miniature has 4.
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


def ablation(base, name):
    if base == MINI_CIFAR:
        name = name.replace('depth-6', 'depth-2')
    return variant(base, name, 'ablations')


def flat(config, prefix=''):
    values = {}
    for key, value in config.items():
        if isinstance(value, (dict, ConfigDict)):
            values.update(flat(value, f'{prefix}{key}.'))
        else:
            values[prefix + key] = value
    return values


def test_every_ablation_is_there():
    assert {c for c in CONFIGS if '/ablations/' in c} == {
        ablation(base, name)
        for base in (IN1K, TINY_CIFAR, MINI_CIFAR)
        for name in ABLATIONS
    } | {ablation(MINI_FASHION, name) for name in ('raster', 'stochastic')}


@pytest.mark.parametrize('name', ['raster', 'stochastic'])
def test_ablation_on_other_images(name):
    """The same model as on CIFAR-10, but for the size of the images."""
    ours = flat(load(ablation(MINI_FASHION, name)).model)
    theirs = flat(load(ablation(MINI_CIFAR, name)).model)
    theirs['backbone.img_size'] = 28
    assert ours == theirs


@FORMS
@pytest.mark.parametrize('name', ABLATIONS)
def test_ablation_differs_in_what_it_says(name, base):
    ours, theirs = load(ablation(base, name)), load(PRETRAIN + base)
    before, after = flat(theirs.pop('model')), flat(ours.pop('model'))
    changed = {k: v for k, v in after.items() if before.get(k) != v}
    expected = dict(ABLATIONS[name])
    if base != IN1K:
        expected.pop('backbone.img_size', None)  # it is 32 already
    if base == MINI_CIFAR and name == 'depth-6':
        expected['neck.depth'] = 2
    assert changed == expected
    assert set(before) <= set(after)
    if name == 'pixels' and base == IN1K:
        assert ours.train_dataloader.dataset.pipeline[0].pop('scale') == 32
        theirs.train_dataloader.dataset.pipeline[0].pop('scale')
        ours.pop('pipeline')  # what the config calls it
    ours = ours.to_dict()
    if f'p4_{name}' in ''.join(bundled()):  # its features, of mmpretrain
        ours = {k: v for k, v in ours.items() if not k.startswith('test_')}
    assert ours == theirs.to_dict()


@FORMS
def test_randsac_differs_in_its_segments(base):
    ours = load(baseline(base, 'randsac'))
    assert ours.model.pop('segment_size') == 2
    assert ours.to_dict() == load(PRETRAIN + base).to_dict()


@pytest.mark.parametrize('name', ['mae', 'mocov3', 'simmim', 'supervised'])
def test_baselines_of_the_miniature_are_as_small(name):
    """Their encoder is SAIM's; so are data, schedule and optimizer."""
    saim = build(load(PRETRAIN + MINI_CIFAR)).backbone
    cfg = load(baseline(MINI_CIFAR, name))
    model = build(cfg)
    shapes = {n: p.shape for n, p in model.backbone.named_parameters()}
    for parameter_name, parameter in saim.named_parameters():
        # The baselines' position embedding is a buffer, or that of patches.
        if parameter_name != 'pos_embed':
            assert shapes[parameter_name] == parameter.shape
    mini = load(PRETRAIN + MINI_CIFAR)
    for key in ('train_cfg', 'param_scheduler', 'auto_scale_lr', 'randomness'):
        assert cfg[key] == mini[key], key
    assert cfg.optim_wrapper.optimizer == mini.optim_wrapper.optimizer
    for key in ('batch_size', 'num_workers', 'drop_last'):
        assert cfg.train_dataloader[key] == mini.train_dataloader[key], key


@pytest.mark.parametrize('name', [*ABLATIONS, 'randsac'])
def test_ablation_trains(name):
    cfg = load(
        ablation(TINY_CIFAR, name)
        if name in ABLATIONS
        else baseline(TINY_CIFAR, name)
    )
    cfg.model.backbone.arch = dict(TINY, num_layers=12)
    if name == 'pixels':
        cfg.model.backbone.img_size = 8
    torch.manual_seed(0)
    with scope(cfg):
        model = MODELS.build(cfg.model)
    model.init_weights()
    size = cfg.model.backbone.img_size
    model.loss(torch.rand(2, 3, size, size))['loss'].backward()
    for parameter_name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad.isfinite().all(), parameter_name


@functools.cache
def flops(path):
    """FLOPs of a training step for one image, which is not computed."""
    cfg = load(path)
    if 'base' in path:  # as many patches, a quarter of the work
        cfg.model.backbone.arch = 'deit-small'
    with scope(cfg):
        model = MODELS.build(cfg.model)
    with FakeTensorMode(allow_non_fake_inputs=True):
        images = torch.rand(1, 3, *model.backbone.img_size)
        order = model.sample_order(images)
        return count_flops(lambda: model.compute_loss(images, order))[1]


@FORMS
def test_light_decoder(base):
    """It says how many FLOPs it takes, which is counted here."""
    path = variant(base, 'light', 'light')
    said = re.search(r'(\d+) % of SAIM', (ROOT / path).read_text())[1]
    share = flops(path) / flops(PRETRAIN + base)
    assert 100 * share == pytest.approx(int(said), abs=2)
