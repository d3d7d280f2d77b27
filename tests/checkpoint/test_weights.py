"""The table of docs/checkpoints.md: each row loads, and means the same."""

import logging

import pytest
import torch
from mmengine.logging import MMLogger
from mmpretrain.registry import MODELS
from safetensors.torch import save_file
from torch import nn

import saim_mm
from saim_mm.checkpoint.formats import FORMATS, to_format
from saim_mm.checkpoint.loader import load_state_dict, save_state_dict
from saim_mm.checkpoint.weights import load_backbone_weights, load_weights
from saim_mm.models.vit_state_dict import fit_pos_embed

ARCH = dict(embed_dims=64, num_layers=3, num_heads=4, feedforward_channels=128)
VIT = dict(arch=ARCH, img_size=32, patch_size=8)
CLOSE = dict(rtol=0, atol=1e-5)


def shake(model):
    """Move every parameter, norms and biases too, from where it starts."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model.eval()


def images():
    return torch.randn(
        2, 3, 32, 32, generator=torch.Generator().manual_seed(1)
    )


def timm_vit(**options):
    timm = pytest.importorskip('timm')
    return shake(
        timm.models.VisionTransformer(
            img_size=32, patch_size=8, embed_dim=64, depth=3, num_heads=4,
            mlp_ratio=2, num_classes=5, **options,
        )
    )  # fmt: skip


def timm_token():
    model = timm_vit()
    return model.state_dict(), model.forward_features(images())[:, 0], {}


def timm_average():
    """Its norm comes after the average."""
    model = timm_vit(global_pool='avg')
    tokens = model.forward_features(images())
    options = dict(out_type='avg_featmap', final_norm=False)
    return (
        model.state_dict(),
        model.forward_head(tokens, pre_logits=True),
        options,
    )


def mae():
    """MAE's own code is timm's ViT, with a decoder beside it."""
    model = timm_vit()
    weights = {
        name: value
        for name, value in model.state_dict().items()
        if not name.startswith('head.')
    }
    decoder = timm_vit()
    weights |= {
        'mask_token': torch.ones(1, 1, 32),
        'decoder_pos_embed': torch.ones(1, 17, 32),
        **{
            f'decoder_{name}': value
            for name, value in decoder.state_dict().items()
            if name.startswith(('blocks.', 'norm.'))
        },
        'decoder_embed.weight': torch.ones(32, 64),
        'decoder_pred.bias': torch.ones(192),
    }
    features = model.forward_features(images())[:, 0]
    return dict(model=weights, epoch=3), features, {}


def transformers_config():
    transformers = pytest.importorskip('transformers')
    options = dict(
        hidden_size=64, num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=128, image_size=32, patch_size=8,
        layer_norm_eps=1e-6,
    )  # fmt: skip
    return transformers, options


def huggingface_classifier():
    transformers, options = transformers_config()
    config = transformers.ViTConfig(**options, num_labels=5)
    model = shake(transformers.ViTForImageClassification(config))
    return model.state_dict(), model.vit(images())[0][:, 0], {}


def huggingface_vit():
    transformers, options = transformers_config()
    model = shake(transformers.ViTModel(transformers.ViTConfig(**options)))
    assert 'pooler.dense.weight' in model.state_dict()
    return model.state_dict(), model(images())[0][:, 0], {}


def huggingface_mae():
    transformers, options = transformers_config()
    config = transformers.ViTMAEConfig(
        **options, mask_ratio=0.0, decoder_hidden_size=32,
        decoder_num_attention_heads=2, decoder_num_hidden_layers=1,
        decoder_intermediate_size=64,
    )  # fmt: skip
    model = shake(transformers.ViTMAEForPreTraining(config))
    # Shuffled by ascending noise.
    noise = torch.arange(16.0).expand(2, -1)
    features = model.vit(images(), noise=noise).last_hidden_state[:, 0]
    return model.state_dict(), features, {}


def mmpretrain_model(**model):
    return shake(MODELS.build(dict(**model)))


def stock_classifier(**options):
    return mmpretrain_model(
        type='ImageClassifier',
        backbone=dict(type='VisionTransformer', **VIT, **options),
        head=dict(type='LinearClsHead', num_classes=5, in_channels=64),
    )


def mmpretrain_classifier():
    model = stock_classifier()
    features = model.backbone(images())[0]
    return dict(state_dict=model.state_dict()), features, {}


def mmpretrain_average():
    options = dict(out_type='avg_featmap', final_norm=False)
    model = stock_classifier(**options)
    features = model.backbone(images())[0]
    return dict(state_dict=model.state_dict()), features, options


def backbone_alone():
    model = saim_mm.SAIMViT(**VIT)
    shake(model)
    return model.state_dict(), model(images())[0], {}


def saim(share_weights=False):
    return mmpretrain_model(
        type='SAIM',
        backbone=dict(type='SAIMViT', **VIT),
        neck=dict(type='SAIMDecoder', share_weights=share_weights),
        head=dict(type='SAIMHead'),
        target_generator=dict(type='SmoothedPatchTarget'),
    )


def ours():
    model = saim()
    features = model.backbone(images())[0]
    return dict(meta={}, state_dict=model.state_dict()), features, {}


def wrapped():
    """As distributed training saves it."""
    checkpoint, features, options = ours()
    weights = checkpoint['state_dict'].items()
    return {f'module.{n}': v for n, v in weights}, features, options


def authors(format='authors'):
    model = saim()
    features = model.backbone(images())[0]
    return dict(model=to_format(model.state_dict(), format)), features, {}


def semaim():
    return authors('semaim')


ROWS = [
    *(ours, wrapped, backbone_alone, authors, semaim),
    *(mmpretrain_classifier, mmpretrain_average),
    *(mae, timm_token, timm_average),
    *(huggingface_classifier, huggingface_vit, huggingface_mae),
]


@pytest.mark.parametrize('row', ROWS)
@pytest.mark.parametrize('suffix', ['pth', 'safetensors'])
@torch.no_grad()
def test_files_in(row, suffix, tmp_path):
    """By every way that a backbone is loaded."""
    checkpoint, features, options = row()
    path = tmp_path / f'x.{suffix}'
    if suffix == 'pth':
        torch.save(checkpoint, path)
    else:
        weights = checkpoint.get('state_dict', checkpoint.get('model'))
        weights = checkpoint if weights is None else weights
        save_file({k: v.contiguous() for k, v in weights.items()}, path)

    def initialised(**init_cfg):
        config = dict(type='Pretrained', checkpoint=str(path), **init_cfg)
        for given in (config, [config]):
            vit = saim_mm.SAIMViT(**VIT, **options, init_cfg=given)
            vit.init_weights()
            yield vit

    loaded = saim_mm.SAIMViT(**VIT, **options)
    load_backbone_weights(loaded, path)
    ways = [loaded, *initialised()]
    if row is not backbone_alone:
        ways += initialised(prefix='backbone.')
    for vit in ways:
        torch.testing.assert_close(vit.eval()(images())[0], features, **CLOSE)


def test_what_is_left_out_is_said(tmp_path, caplog):
    path = tmp_path / 'x.pth'
    logger = MMLogger.get_instance('left out')
    logger.addHandler(caplog.handler)
    caplog.set_level(logging.INFO)
    for row, words in (
        (mae, ["'mask_token'", 'others']),
        (huggingface_mae, ["'decoder.", 'others']),
        (huggingface_vit, ['pooler']),
        (ours, ["['head', 'neck']"]),
        (mmpretrain_classifier, ["['head']"]),
    ):
        torch.save(row()[0], path)
        caplog.clear()
        load_backbone_weights(saim_mm.SAIMViT(**VIT), path)
        said = ' '.join(r.getMessage() for r in caplog.records)
        assert 'eft out' in said
        for word in words:
            assert word in said, (row, said)


def with_weights(**more):
    weights = dict(backbone_alone()[0])
    return {**weights, **more}


def without(*beginnings):
    return {
        name: value
        for name, value in backbone_alone()[0].items()
        if not name.startswith(beginnings)
    }


REFUSED = {
    'LayerScale of timm': (
        lambda: timm_vit(init_values=0.1).state_dict(),
        'blocks.0.ls1.gamma.*LayerScale',
    ),
    'LayerScale of mmpretrain': (
        lambda: stock_classifier(layer_scale_init_value=0.1).state_dict(),
        'gamma.*LayerScale',
    ),
    'a norm before the blocks of timm': (
        lambda: timm_vit(pre_norm=True).state_dict(),
        'norm_pre.*CLIP',
    ),
    'a norm before the blocks of mmpretrain': (
        lambda: stock_classifier(pre_norm=True).state_dict(),
        'pre_norm.*CLIP',
    ),
    'norms of queries': (
        lambda: timm_vit(qk_norm=True).state_dict(),
        'norms of queries and keys',
    ),
    'no final norm': (
        lambda: without('ln1.'),
        'lacks .*ln1.*final norm: backbone.final_norm=False',
    ),
    'a norm after the average': (
        lambda: timm_average()[0],
        "final_norm=False .*out_type='avg_featmap'",
    ),
    'no bias of queries': (
        lambda: {
            n: v for n, v in with_weights().items() if 'qkv.bias' not in n
        },
        'backbone.qkv_bias=False',
    ),
    'no class token': (
        lambda: without('cls_token'),
        'with_cls_token=False',
    ),
    'no positions': (lambda: without('pos_embed'), "lacks .'pos_embed'"),
    'part of a block': (
        lambda: without('layers.1.ffn.layers.1.bias'),
        'lacks .*layers.1.ffn.layers.1.bias',
    ),
    'relative positions': (
        lambda: with_weights(**{'layers.0.attn.rel_pos_h': torch.ones(7, 16)}),
        'no place for.*use_rel_pos=True',
    ),
    'something else': (
        lambda: with_weights(**{'layers.0.more.weight': torch.ones(1)}),
        "no place for: .'layers.0.more.weight'",
    ),
    'another width of positions': (
        lambda: with_weights(pos_embed=torch.ones(1, 17, 32)),
        r'pos_embed has shape \(1, 17, 32\)',
    ),
    'odd positions': (
        lambda: with_weights(pos_embed=torch.ones(17)),
        r'pos_embed has shape \(17,\)',
    ),
    'another network': (
        lambda: MODELS.build(dict(type='ResNet', depth=18)).state_dict(),
        '0 % of the backbone.*convert.py',
    ),
    'another patch size': (
        lambda: saim_mm.SAIMViT(ARCH, 32, 4).state_dict(),
        'patch_embed.*patch_size',
    ),
    'odd names': (
        lambda: with_weights(**{'layers.x': torch.ones(1)}),
        "no place for: .'layers.x'",
    ),
    'queries without keys': (
        lambda: {
            n: v for n, v in huggingface_vit()[0].items() if '.key.' not in n
        },
        'does not fit the backbone: layers.0.attn.qkv',
    ),
}


@pytest.mark.parametrize('what', REFUSED)
def test_what_does_not_fit_is_refused(what, tmp_path):
    """By both ways; nothing of it is loaded."""
    build, message = REFUSED[what]
    path = tmp_path / 'x.pth'
    torch.save(build(), path)
    vit = saim_mm.SAIMViT(**VIT)
    before = {n: v.clone() for n, v in vit.state_dict().items()}
    with pytest.raises(ValueError, match=rf'(?s)x\.pth.*{message}'):
        load_backbone_weights(vit, path)
    for name, value in vit.state_dict().items():
        assert torch.equal(value, before[name]), name
    config = dict(type='Pretrained', checkpoint=str(path))
    with pytest.raises(ValueError, match=f'(?s){message}'):
        saim_mm.SAIMViT(**VIT, init_cfg=config).init_weights()


def test_options_take_what_they_are_named_for(tmp_path):
    path = tmp_path / 'x.pth'
    for weights, options in (
        (without('ln1.'), dict(final_norm=False)),
        (without('layers.1.ln1.bias'), dict(min_match_ratio=0.9)),
        (with_weights(odd=torch.ones(1)), dict(min_match_ratio=0)),
        (timm_average()[0], dict(out_type='avg_featmap', final_norm=False)),
        (
            {n: v for n, v in with_weights().items() if 'qkv.bias' not in n},
            dict(qkv_bias=False),
        ),
    ):
        torch.save(weights, path)
        load_backbone_weights(saim_mm.SAIMViT(**VIT, **options), path)


def test_a_norm_of_fine_tuning_starts_anew(tmp_path):
    """MAE's fine-tuning puts it after the average; get_model has no use."""
    path = tmp_path / 'x.pth'
    torch.save(mae()[0], path)
    options = dict(out_type='avg_featmap', final_norm=False)
    config = dict(type='Pretrained', checkpoint=str(path))
    vit = saim_mm.SAIMViT(**VIT, **options, init_cfg=config)
    vit.init_weights()
    assert vit.ln2.weight.eq(1).all()
    with pytest.raises(ValueError, match=r"lacks .*ln2.*out_type='cls_token'"):
        load_backbone_weights(saim_mm.SAIMViT(**VIT, **options), path)


def test_init_cfg_is_the_users(tmp_path):
    """It was overridden, or (in a list) overrode what it had loaded."""
    source = backbone_alone()[0]
    path = tmp_path / 'x.pth'
    torch.save(source, path)
    pretrained = dict(type='Pretrained', checkpoint=str(path))
    small = dict(type='Constant', val=0.5, layer=['Linear', 'Conv2d'])
    for given in (
        pretrained,
        [pretrained],
        [pretrained, small],
        [small, pretrained],
    ):
        vit = saim_mm.SAIMViT(**VIT, init_cfg=given)
        vit.init_weights()
        for name, value in vit.state_dict().items():
            assert torch.equal(value, source[name]), (given, name)
        assert vit.init_cfg == given
    for given in (small, [small]):
        vit = saim_mm.SAIMViT(**VIT, init_cfg=given)
        vit.init_weights()
        for module in vit.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                assert module.weight.eq(0.5).all()
        assert vit.cls_token.abs().sum() > 0  # not named: as usual
    classifier = MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=dict(type='SAIMViT', **VIT, init_cfg=[pretrained]),
            head=dict(type='LinearClsHead', num_classes=5, in_channels=64),
        )
    )
    classifier.init_weights()
    for name, value in classifier.backbone.state_dict().items():
        assert torch.equal(value, source[name]), name


def test_whole_models(tmp_path):
    model = stock_classifier()
    weights = model.state_dict()
    other = stock_classifier()
    load_weights(other, weights, 'x')
    with pytest.raises(ValueError, match=r"^x: lacks .'head.fc.bias'.*same"):
        load_weights(
            other, {k: v for k, v in weights.items() if k != 'head.fc.bias'},
            'x',
        )  # fmt: skip
    with pytest.raises(ValueError, match="^x: has .'y'., for which"):
        load_weights(other, {**weights, 'y': torch.ones(1)}, 'x')
    with pytest.raises(ValueError, match='(?s)^x: .*size mismatch for head'):
        load_weights(other, {**weights, 'head.fc.bias': torch.ones(3)}, 'x')


@pytest.mark.parametrize('format', FORMATS)
def test_files_out_come_back(format, tmp_path):
    """What the rows of 'out' are, tests/checkpoint/test_formats.py has."""
    source = backbone_alone()[0]
    path = tmp_path / 'x.safetensors'
    save_state_dict(to_format(source, format), path)
    vit = saim_mm.SAIMViT(**VIT)
    load_backbone_weights(vit, path)
    for name, value in vit.state_dict().items():
        assert torch.equal(value, source[name]), name
    assert load_state_dict(path).keys() == to_format(source, format).keys()


def test_positions_that_fit_are_left_as_they_are():
    """Cut anew, they would not be the parts that fsdp gives a process."""
    vit = saim_mm.SAIMViT(**VIT)
    state = vit.state_dict()
    given = state['pos_embed']
    fit_pos_embed(vit, state, '')
    assert state['pos_embed'] is given
