"""Readouts: literal formulas, backbones of others, classifiers."""

import math

import pytest
import torch
from helpers import TINY
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

import saim_mm
from saim_mm.evaluation.features import backbone_outputs, num_extra_tokens
from saim_mm.evaluation.readouts import (
    AttentivePooling,
    ClassToken,
    EfficientProbing,
    PatchMean,
    build_readout,
)

B, T, C = 3, 10, 24  # images, tokens with the class token, channels


@pytest.fixture
def outputs():
    """Of three blocks."""
    generator = torch.Generator().manual_seed(0)
    return [
        2 * torch.randn(B, T, C, generator=generator, dtype=torch.float64) + 1
        for _ in range(3)
    ]


def same(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def literal_attention(x, queries, keys, values):
    """y_m = sum_i softmax_i(q_m k_mi) v_mi, one number at a time."""
    parts = []
    for q, k, v in zip(queries, keys, values):
        scores = [sum(q[c] * key[c] for c in range(len(q))) for key in k]
        highest = max(scores)
        shares = [(s - highest).exp() for s in scores]
        parts.append(
            sum(share / sum(shares) * v[i] for i, share in enumerate(shares))
        )
    return torch.cat(parts)


def literal_efficient(x, queries, value):
    """SPEC: the tokens themselves are the keys, V x_i is cut into parts."""
    number = len(queries)
    values = torch.stack([value @ token for token in x])  # (T, C)
    keys = [x / math.sqrt(C)] * number
    return literal_attention(x, queries, keys, values.chunk(number, dim=1))


def literal_attentive(x, query, key, value, heads):
    keys, values = (
        torch.stack([weight @ token for token in x]).chunk(heads, dim=1)
        for weight in (key, value)
    )
    keys = [k / math.sqrt(C / heads) for k in keys]
    return literal_attention(x, query.chunk(heads), keys, values)


def test_class_token_and_mean(outputs):
    same(ClassToken()(outputs)[0], outputs[2][:, 0])
    same(
        PatchMean()(outputs)[0], sum(outputs[2][:, i] for i in range(1, T)) / 9
    )
    same(PatchMean(num_extra_tokens=0)(outputs)[0], outputs[2].sum(1) / T)
    # The mean of the last k blocks.
    mean = (outputs[1] + outputs[2]) / 2
    same(ClassToken(num_blocks=2)(outputs)[0], mean[:, 0])
    same(PatchMean(num_blocks=2)(tuple(outputs))[0], mean[:, 1:].mean(dim=1))


def test_a_map(outputs):
    features = outputs[0][:, 1:].transpose(1, 2).reshape(B, C, 3, 3)
    same(PatchMean()(features)[0], features.mean(dim=(2, 3)))
    readout = EfficientProbing(C, 4).double()
    same(readout(features)[0], readout(outputs[0])[0])
    with pytest.raises(ValueError, match='ClassToken.*no class token'):
        ClassToken()(features)


@pytest.mark.parametrize('with_cls_token', [False, True])
@pytest.mark.parametrize('num_queries', [1, 4, 24])
def test_efficient_probing(outputs, num_queries, with_cls_token):
    readout = EfficientProbing(
        C, num_queries, with_cls_token=with_cls_token, num_blocks=3
    ).double()
    with torch.no_grad():
        readout.query.mul_(50)  # so that it attends somewhere
    (found,) = readout(outputs)
    tokens = sum(outputs) / 3
    tokens = tokens if with_cls_token else tokens[:, 1:]
    expected = torch.stack(
        [
            literal_efficient(x, readout.query, readout.value.weight)
            for x in tokens
        ]
    )
    same(found, expected)
    weight = torch.arange(B * C, dtype=torch.float64).view(B, C).sin()
    for mine, literal in zip(
        *(
            torch.autograd.grad(
                (y * weight).sum(), tuple(readout.parameters())
            )
            for y in (found, expected)
        )
    ):
        same(mine, literal)


@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('heads', [1, 3])
def test_attentive_pooling(outputs, heads, training):
    readout = AttentivePooling(C, heads).double().train(training)
    with torch.no_grad():
        readout.query.mul_(50)
        readout.bn.running_mean.copy_(torch.arange(C) / 10)
        readout.bn.running_var.copy_(1 + torch.arange(C) / 5)
    tokens = outputs[2][:, 1:]
    mean, var = readout.bn.running_mean.clone(), readout.bn.running_var.clone()
    (found,) = readout(outputs)
    if training:
        flat = tokens.reshape(-1, C)
        mean, var = flat.mean(dim=0), flat.var(dim=0, unbiased=False)
    tokens = (tokens - mean) / (var + 1e-6).sqrt()
    weights = readout.query, readout.key.weight, readout.value.weight
    expected = torch.stack(
        [literal_attentive(x, *weights, heads) for x in tokens]
    )
    same(found, expected)


def test_they_start_as_the_papers_do():
    torch.manual_seed(0)
    readout = EfficientProbing(768)
    assert readout.query.shape == (32, 768)
    assert readout.query.std().item() == pytest.approx(0.02, rel=0.02)
    assert readout.value.bias is None
    assert sum(p.numel() for p in readout.parameters()) == 768 * (768 + 32)
    readout = AttentivePooling(768, 12)
    assert readout.query.std().item() == pytest.approx(0.02, rel=0.1)
    assert not readout.bn.affine
    assert sum(p.numel() for p in readout.parameters()) == 768 * (2 * 768 + 1)


ARCH = dict(TINY, embed_dims=24)
VIT = dict(arch=ARCH, img_size=32, patch_size=8)
BACKBONES = dict(
    vit=dict(type='VisionTransformer', out_type='raw', **VIT),
    deit=dict(type='DistilledVisionTransformer', out_type='raw', **VIT),
    mae=dict(type='MAEViT', **VIT),
    saim=dict(type='SAIMViT', out_type='raw', **VIT),
    timm=dict(
        type='TIMMBackbone',
        model_name='vit_tiny_patch16_224',
        img_size=32,
        patch_size=8,
        embed_dim=24,
        depth=2,
        num_heads=3,
    ),
    timm_map=dict(type='TIMMBackbone', model_name='resnet10t'),
)
EXTRA = dict(vit=1, deit=2, mae=1, saim=1, timm=1, timm_map=0)
CHANNELS = dict(timm_map=512)


@pytest.mark.parametrize('name', BACKBONES)
def test_tokens_of_any_backbone(name):
    pytest.importorskip('timm')
    torch.manual_seed(0)
    backbone = MODELS.build(BACKBONES[name])
    backbone.eval()  # which returns nothing
    images = torch.randn(2, 3, 32, 32)
    assert num_extra_tokens(backbone) == EXTRA[name]
    (output,) = backbone_outputs(backbone, images)
    if name == 'timm_map':
        assert output.shape == (2, 512, 1, 1)
        expected = backbone(images)[-1]
    else:
        assert output.shape == (2, 16 + EXTRA[name], 24)
        # Of all patches, though MAE masks in pre-training.
        expected = (
            backbone(images, mask=None) if name == 'mae' else backbone(images)
        )[-1]
    torch.testing.assert_close(output, expected, rtol=0, atol=0)
    if name in ('timm', 'timm_map'):
        with pytest.raises(
            ValueError, match='num_blocks=2: must be at most 1'
        ):
            backbone_outputs(backbone, images, 2)
        return
    before = backbone.out_type, backbone.out_indices
    outputs = backbone_outputs(backbone, images, 3)
    assert (backbone.out_type, backbone.out_indices) == before
    assert len(outputs) == 3
    torch.testing.assert_close(outputs[2], output, rtol=0, atol=0)
    assert not torch.equal(outputs[0], outputs[1])
    with pytest.raises(ValueError, match='num_blocks=5: must be 1 to 4'):
        backbone_outputs(backbone, images, 5)


@pytest.mark.parametrize('readout', [EfficientProbing, AttentivePooling])
@pytest.mark.parametrize('name', ['vit', 'saim', 'timm', 'timm_map'])
def test_in_a_classifier(name, readout):
    """As a neck: all but the backbone learns, by mmpretrain's own classes."""
    pytest.importorskip('timm')
    torch.manual_seed(0)
    size = CHANNELS.get(name, C)
    neck = dict(
        type=readout.__name__,
        embed_dims=size,
        num_extra_tokens=EXTRA[name],
        **(dict(num_heads=2) if readout is AttentivePooling else {}),
        **(dict(num_queries=8) if readout is EfficientProbing else {}),
    )
    options = dict(BACKBONES[name])
    if name in ('vit', 'saim'):
        options['frozen_stages'] = 4
    model = MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=options,
            neck=[neck, dict(type='ClsBatchNormNeck', input_features=size)],
            head=dict(type='LinearClsHead', num_classes=2, in_channels=size),
        )
    ).train()
    if name.startswith('timm'):
        model.backbone.requires_grad_(False)
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert all(n.startswith(('neck.', 'head.fc.')) for n in trained)
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=0.01
    )
    images = torch.randn(8, 3, 32, 32)
    samples = [DataSample().set_gt_label(i // 4) for i in range(8)]
    losses = []
    for _ in range(20):
        loss = model.loss(images, samples)['loss']
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(p.grad is not None for p in optimizer.param_groups[0]['params'])
    assert losses[-1] < 0.1 < losses[0]


def test_bad_input(outputs):
    with pytest.raises(ValueError, match='PatchMean.num_blocks=0: must be an'):
        PatchMean(num_blocks=0)
    with pytest.raises(
        ValueError, match='num_blocks=4: must be at most 3.*out_indices'
    ):
        PatchMean(num_blocks=4)(outputs)
    with pytest.raises(ValueError, match=r"\(3, 24\).*out_type='raw'"):
        PatchMean()(outputs[0][:, 0])
    with pytest.raises(ValueError, match='num_extra_tokens=10: must be less'):
        PatchMean(num_extra_tokens=10)(outputs)
    with pytest.raises(
        ValueError, match='EfficientProbing.num_queries=5: must be a positive'
    ):
        EfficientProbing(C, 5)
    with pytest.raises(ValueError, match='AttentivePooling.num_heads=0'):
        AttentivePooling(C, 0)
    with pytest.raises(ValueError, match='embed_dims=48: must be 24'):
        EfficientProbing(48, 4)(outputs[0].float())
    for wrong in ('mean', 3, None):
        with pytest.raises(ValueError, match='readout=.*must be one of'):
            build_readout(wrong, 1)
    with pytest.raises(ValueError, match='has weights to learn'):
        build_readout(dict(type='EfficientProbing', embed_dims=32), 1)
    probe = torch.nn.Sequential(EfficientProbing(C, 4), torch.nn.Linear(C, 2))
    with pytest.raises(ValueError, match="'Sequential': must be .*first part"):
        build_readout(probe, 1)
    assert build_readout(probe[0], 1) is probe[0]


def test_feature_extractor(photos):
    paths = sorted(photos.iterdir())[:3]
    torch.manual_seed(0)
    model = saim_mm.get_model('saim_vit-mini-p4')
    extract = saim_mm.FeatureExtractor(model)
    tokens = extract(paths, out_type='raw')
    found = extract(paths, readout='cls_token')
    torch.testing.assert_close(found, tokens[:, 0], rtol=0, atol=0)
    found = extract(paths, readout='patch_mean')
    torch.testing.assert_close(found, tokens[:, 1:].mean(dim=1))
    third = extract(paths, out_type='avg_featmap', layer=2)
    found = extract(paths, readout=dict(type='PatchMean', num_blocks=2))
    torch.testing.assert_close(found, (third + tokens[:, 1:].mean(dim=1)) / 2)
    trained = EfficientProbing(96)
    found = extract(paths, readout=trained, batch_size=2)
    torch.testing.assert_close(found, trained(tokens)[0].detach())
