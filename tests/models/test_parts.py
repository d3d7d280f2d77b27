"""The parts on their own."""

import subprocess
import sys

import pytest
import torch
from helpers import ARCH, saim
from mmpretrain.models import VisionTransformer
from mmpretrain.registry import MODELS

from saim_mm import SAIMViT, SmoothedPatchTarget
from saim_mm.models.orders import build_order
from saim_mm.models.target import patchify, unpatchify


def test_stochastic_order_is_a_fresh_permutation():
    torch.manual_seed(0)
    order = build_order('stochastic').sample(2000, (2, 3), 'cpu')
    assert (order.indices.sort(dim=1)[0] == torch.arange(6)).all()
    # Every patch comes at every step equally often.
    for step in order.indices.T:
        counts = step.bincount(minlength=6)
        assert (counts - 2000 / 6).abs().max() < 80  # 4.8 deviations
    assert len({tuple(row) for row in order.indices.tolist()}) > 600
    again = build_order('stochastic').sample(2000, (2, 3), 'cpu')
    assert not (again.indices == order.indices).all()


def test_order_sorts_and_unsorts():
    order = build_order('stochastic').sample(3, (2, 5), 'cpu')
    tokens = torch.randn(3, 10, 4)
    steps = order.sort(tokens)
    for b in range(3):
        assert (steps[b] == tokens[b, order.indices[b]]).all()
    assert (order.unsort(steps) == tokens).all()
    assert order.sort(tokens[:1]).shape == (3, 10, 4)
    raster = build_order('raster').sample(3, (2, 5), 'cpu')
    assert (raster.sort(tokens) == tokens).all()


def test_patchify_has_the_papers_pixel_order():
    images = torch.randn(2, 3, 8, 12)
    patches = patchify(images, 4)
    # Patch 4 is in the second row and second column; pixel (row 1, column 2).
    pixel = patches[1, 4].reshape(4, 4, 3)[1, 2]
    assert (pixel == images[1, :, 4 + 1, 4 + 2]).all()
    assert (unpatchify(patches, 4, (2, 3)) == images).all()


def test_target_is_normalised_and_has_no_gradient():
    images = torch.randn(2, 3, 16, 16, requires_grad=True)
    target = SmoothedPatchTarget(patch_size=4)(images)
    assert not target.requires_grad
    torch.testing.assert_close(
        target.mean(-1), torch.zeros(2, 16), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(
        target.var(-1), torch.ones(2, 16), atol=1e-3, rtol=0
    )


def test_initialisation_is_the_papers():
    torch.manual_seed(0)
    vit = SAIMViT(arch='base')
    vit.init_weights()
    block = vit.layers[3]
    for name, weight, fan in (
        ('q', block.attn.qkv.weight[:768], 768 + 768),
        ('k', block.attn.qkv.weight[768:1536], 768 + 768),
        ('v', block.attn.qkv.weight[1536:], 768 + 768),
        ('proj', block.attn.proj.weight, 768 + 768),
        ('fc1', block.ffn.layers[0][0].weight, 768 + 3072),
        ('fc2', block.ffn.layers[1].weight, 768 + 3072),
        ('patch', vit.patch_embed.projection.weight, 768 + 768),
    ):
        bound = (6 / fan) ** 0.5
        assert weight.abs().max() <= bound, name
        assert weight.abs().max() > 0.999 * bound, name
        assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.01)
    for bias in (block.attn.qkv.bias, block.attn.proj.bias):
        assert (bias == 0).all()
    assert vit.cls_token.std().item() == pytest.approx(0.02, rel=0.1)
    assert (vit.pos_embed[:, 0] == 0).all()
    # Patch (row 0, column 1): the first half of the channels has moved.
    half = 768 // 2
    assert (vit.pos_embed[0, 2, half:] == vit.pos_embed[0, 1, half:]).all()
    assert vit.pos_embed[0, 2, 0] == torch.tensor(1.0).sin()


@pytest.mark.parametrize(
    'out_type', ['cls_token', 'featmap', 'avg_featmap', 'raw']
)
def test_downstream_it_is_mmpretrains_vit(out_type):
    """Weights load both ways and mean the same."""
    config = dict(arch=ARCH, img_size=32, patch_size=8, out_type=out_type)
    torch.manual_seed(0)
    ours = SAIMViT(**config, out_indices=(1, 3)).eval()
    theirs = VisionTransformer(**config, out_indices=[1, 3])
    theirs.eval()  # returns None in mmpretrain
    theirs.init_weights()
    shapes = {k: v.shape for k, v in theirs.state_dict().items()}
    assert {k: v.shape for k, v in ours.state_dict().items()} == shapes
    for name in shapes:
        assert ours.get_layer_depth(name) == theirs.get_layer_depth(name)
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 32, 48)  # not the size it was built for
    for a, b in zip(ours(images), theirs(images)):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_image_size_from_the_command_line():
    """`--cfg-options model.backbone.img_size=32,48` gives a list."""
    model = saim(backbone__img_size=[32, 48])
    assert model.loss(torch.randn(2, 3, 32, 48))['loss'] > 0


def test_no_class_token_downstream():
    vit = SAIMViT(
        arch=ARCH,
        img_size=(16, 32),
        patch_size=8,
        with_cls_token=False,
        out_type='featmap',
    )
    assert vit(torch.randn(1, 3, 16, 32))[0].shape == (1, 64, 2, 4)


def test_frozen_stages_stay_frozen():
    vit = SAIMViT(arch=ARCH, img_size=16, patch_size=8, frozen_stages=3)
    assert vit.train() is vit
    trained = {
        n.split('.')[1]
        for n, p in vit.named_parameters()
        if p.requires_grad and n.startswith('layers')
    }
    assert trained == {'3'} and not vit.pos_embed.requires_grad
    assert [layer.training for layer in vit.layers] == [False] * 3 + [True]


@pytest.mark.parametrize(
    'change, words',
    [
        (dict(order='zigzag'), ['order', 'zigzag', 'stochastic', 'raster']),
        (dict(head__predictor='conv'), ['predictor', 'conv', 'mlp']),
        (
            dict(
                head__loss=dict(type='PixelReconstructionLoss', criterion='L3')
            ),
            ['loss', 'L3', 'L1', 'L2'],
        ),
        (dict(head__loss=dict(type='NoLoss')), ['loss', 'NoLoss', 'L1']),
        (dict(neck__depth=3), ['depth', '3', '[1, 2, 4]']),
        (dict(neck__depth=8), ['depth', '8', '[1, 2, 4]']),
        (dict(neck__widen_factor=2), ['widen_factor', '2', 'at most 1']),
        (dict(neck__widen_factor='half'), ['widen_factor', 'half', 'share']),
        (dict(neck__widen_factor=0.52), ['widen_factor', '0.52', '2 heads']),
        (
            dict(neck__widen_factor=0.5, neck__share_weights=True),
            ['widen_factor', '0.5', 'share_weights'],
        ),
        (
            dict(teacher=dict(type='MovingAverageTeacher', momentum=0)),
            ['teacher.momentum', '0', 'share'],
        ),
        (dict(neck__depth=0), ['order', 'stochastic', 'raster', 'neck.depth']),
        (
            dict(prefix=0.5, head__predictor='transformer'),
            ['head.predictor', 'transformer', 'mlp', 'prefix'],
        ),
        (
            dict(segment_size=2, head__predictor='transformer'),
            ['head.predictor', 'transformer', 'mlp', 'segments'],
        ),
        (dict(target_generator__kernel_size=4), ['kernel_size', '4', 'odd']),
        (
            dict(backbone__patch_size=1, backbone__in_channels=1),
            ['target_generator.normalize', 'True', 'one value'],
        ),
        (dict(target_generator__sigma=0), ['sigma', '0', 'positive']),
        (dict(target_generator__sigma=-1.0), ['sigma', '-1', 'positive']),
        (dict(backbone__img_size=30), ['img_size', '30', 'patch_size=8']),
        (dict(backbone__img_size=(32, 30)), ['img_size', '30']),
        (dict(backbone__img_size=0), ['img_size', '0', 'positive']),
        (dict(backbone__patch_size=0), ['patch_size', '0', 'positive']),
        (dict(backbone__arch='huge-ish'), ['arch', 'huge-ish', 'base']),
        (dict(backbone__arch=dict(embed_dims=8)), ['arch', 'num_layers']),
        (
            dict(backbone__with_cls_token=False, backbone__out_type='raw'),
            ['with_cls_token', 'False', 'True'],
        ),
        (dict(backbone__final_norm=False), ['final_norm', 'False', 'True']),
        (dict(backbone__arch={**ARCH, 'num_heads': 5}), ['num_heads', '5']),
        (dict(backbone__arch={**ARCH, 'embed_dims': 66}), ['embed_dims']),
        (dict(backbone__out_type='map'), ['out_type', 'map', 'featmap']),
        (dict(backbone__out_indices=4), ['out_indices', '4']),
        (dict(backbone__frozen_stages=9), ['frozen_stages', '9', '4']),
    ],
)
def test_bad_values_are_named(change, words):
    with pytest.raises(ValueError) as error:
        saim(**change)
    for word in words:
        assert word in str(error.value)


def test_images_of_another_size_are_named():
    model = saim()
    for size in ((32, 40), (24, 24), (33, 32)):
        with pytest.raises(ValueError, match=r'img_size=\(32, 32\)') as error:
            model.loss(torch.randn(2, 3, *size))
        assert str(size) in str(error.value)


@pytest.mark.parametrize(
    'other, words',
    [
        (
            dict(arch={**ARCH, 'embed_dims': 32}),
            ['cls_token', '(1, 1, 32)', '(1, 1, 64)', 'arch'],
        ),
        (dict(arch={**ARCH, 'num_layers': 6}), ['6 blocks', 'has 4', 'arch']),
        (dict(patch_size=4), ['patch_embed', '(64, 3, 4, 4)', 'patch_size']),
    ],
)
def test_checkpoint_of_another_size(tmp_path, other, words):
    """Through MMEngine's own loader, which by itself only warns."""
    from mmengine.runner import load_checkpoint

    config = dict(arch=ARCH, img_size=32, patch_size=8)
    path = str(tmp_path / 'other.pth')
    torch.save(SAIMViT(**{**config, **other}).state_dict(), path)
    with pytest.raises(ValueError) as error:
        load_checkpoint(SAIMViT(**config), path)
    for word in words:
        assert word in str(error.value)


def test_bf16_autocast_is_close():
    torch.manual_seed(0)
    model = saim()
    model.init_weights()
    images = torch.randn(4, 3, 32, 32)
    order = model.sample_order(images)
    loss = model.loss(images, order=order)['loss']
    with torch.autocast('cpu', torch.bfloat16):
        low = model.loss(images, order=order)['loss']
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, loss, rtol=0.02, atol=0)


def python(code):
    return subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True
    )


def test_pretraining_needs_no_other_toolbox():
    result = python(
        'import sys\n'
        "for m in ('mmdet', 'mmseg', 'mmcv.ops', 'mmcv._ext'):\n"
        '    sys.modules[m] = None\n'
        'import saim_mm\n'
        'from mmpretrain.registry import MODELS\n'
        "MODELS.build(dict(type='SAIMViT', arch='deit-tiny'))\n"
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    'missing, imported, words',
    [
        ('mmpretrain', 'saim_mm', ['saim_mm[onedl]']),
        ('mmcv', 'saim_mm', ['saim_mm[onedl]']),
        ('mmdet', 'saim_mm.detection', ['[onedl,detection]']),
        ('mmseg', 'saim_mm.segmentation', ['[onedl,segmentation]']),
    ],
)
def test_missing_packages_are_named(missing, imported, words):
    result = python(
        f'import sys; sys.modules[{missing!r}] = None; import {imported}'
    )
    last = result.stderr.strip().splitlines()[-1]
    assert result.returncode == 1
    for word in (imported, missing, 'pip install', *words):
        assert word in last


@pytest.mark.parametrize('views', [1, 2])
@pytest.mark.parametrize('to_rgb', [False, True])
def test_pixels_are_those_of_mmpretrain(views, to_rgb):
    """To the bit, of one batch or of several views; what is given stays."""
    options = dict(mean=[120.0, 110, 100], std=[60.0, 50, 40], to_rgb=to_rgb)
    images = torch.randint(0, 256, (views, 4, 3, 8, 8), dtype=torch.uint8)
    inputs = images[0] if views == 1 else list(images)
    batch = dict(inputs=inputs, data_samples=None)
    ours, theirs = (
        MODELS.build(dict(type=name, **options))(batch, True)['inputs']
        for name in ('PixelPreprocessor', 'SelfSupDataPreprocessor')
    )
    if views == 1:
        ours, theirs = [ours], [theirs]
    assert len(ours) == len(theirs) == views
    for mine, other in zip(ours, theirs):
        assert mine.dtype == torch.float32 and torch.equal(mine, other)
    assert batch['inputs'] is inputs
