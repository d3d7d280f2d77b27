"""Weights for others and from others: the same outputs, and back exactly."""

import json
import runpy
import sys
from pathlib import Path

import mmpretrain
import numpy as np
import pytest
import torch
from helpers import call, config, train
from helpers import mae as mae_config
from mmengine.logging import HistoryBuffer
from mmpretrain.registry import MODELS
from PIL import Image

import saim_mm
from saim_mm.checkpoint.atomic import atomic_write
from saim_mm.checkpoint.formats import (
    FORMATS,
    detect_format,
    from_format,
    to_format,
)
from saim_mm.checkpoint.loader import (
    load_from_local,
    load_state_dict,
    save_state_dict,
)
from saim_mm.datasets.images import MEAN, STD

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


def classifier(backbone='SAIMViT', out_type='cls_token', head=None):
    return shake(
        MODELS.build(
            dict(
                type='ImageClassifier',
                backbone=dict(
                    type=backbone,
                    out_type=out_type,
                    final_norm=out_type == 'cls_token',
                    **VIT,
                ),
                head=head
                or dict(type='LinearClsHead', num_classes=5, in_channels=64),
            )
        )
    )


def pretraining(**neck):
    return shake(
        MODELS.build(
            dict(
                type='SAIM',
                backbone=dict(type='SAIMViT', **VIT),
                neck=dict(type='SAIMDecoder', **neck),
                head=dict(type='SAIMHead'),
                target_generator=dict(type='SmoothedPatchTarget'),
            )
        )
    )


def images():
    return torch.randn(4, 3, 32, 32, generator=torch.manual_seed(1))


@pytest.fixture
def convert(monkeypatch, capsys):
    """The command, in this process."""

    def run(source, target, format, *options, fails=False):
        command = ['convert.py', source, target, '--to', format, *options]
        monkeypatch.setattr(sys, 'argv', [str(x) for x in command])
        try:
            runpy.run_path('tools/converters/convert.py', run_name='__main__')
        except SystemExit as error:
            assert fails and error.code
        else:
            assert not fails
        captured = capsys.readouterr()
        return captured.err if fails else captured.out

    return run


@pytest.mark.parametrize('suffix', ['pth', 'safetensors'])
@pytest.mark.parametrize('out_type', ['cls_token', 'avg_featmap'])
def test_timm(tmp_path, out_type, suffix, convert):
    timm = pytest.importorskip('timm')
    model = classifier(out_type=out_type)
    source, target = tmp_path / f'a.{suffix}', tmp_path / f'b.{suffix}'
    save_state_dict(model.state_dict(), source)
    assert 'mmpretrain -> timm' in convert(source, target, 'timm')
    theirs = timm.models.VisionTransformer(
        img_size=32,
        patch_size=8,
        embed_dim=64,
        depth=3,
        num_heads=4,
        mlp_ratio=2,
        num_classes=5,
        global_pool='token' if out_type == 'cls_token' else 'avg',
    ).eval()
    timm.models.load_checkpoint(theirs, str(target))
    with torch.no_grad():
        torch.testing.assert_close(theirs(images()), model(images()), **CLOSE)
    back = tmp_path / f'c.{suffix}'
    convert(target, back, 'mmpretrain')
    assert_same(load_state_dict(back), model.state_dict())


def test_nothing_of_the_user_is_overwritten(tmp_path, convert):
    """Neither the source, nor what describes another model."""
    source = tmp_path / 'a.safetensors'
    save_state_dict(classifier().state_dict(), source)
    before = source.read_bytes()
    (tmp_path / 'link').symlink_to(tmp_path)
    for target in (source, tmp_path / 'link' / source.name):
        assert 'another file' in convert(source, target, 'timm', fails=True)
    assert source.read_bytes() == before
    folder = tmp_path / 'run'
    folder.mkdir()
    (folder / 'epoch_1.pth').write_text('of a week')
    for form in ('timm', 'huggingface'):
        assert f'{folder}: is a folder' in convert(
            source, folder, form, fails=True
        )
    with pytest.raises(IsADirectoryError):
        atomic_write(folder, b'')
    assert (folder / 'epoch_1.pth').read_text() == 'of a week'
    target = tmp_path / 'model.safetensors'
    config = tmp_path / 'config.json'
    config.write_text('{}')
    words = convert(source, target, 'huggingface', fails=True)
    assert f'{config} is of another model' in words
    assert config.read_text() == '{}' and not target.exists()
    config.unlink()
    for _ in range(2):  # its own files may be written again
        convert(source, target, 'huggingface', '--num-heads', '4')
    assert json.loads(config.read_text())['num_attention_heads'] == 4


def test_timm_by_name(tmp_path, convert):
    """As docs/checkpoints.md has it."""
    timm = pytest.importorskip('timm')
    model = saim_mm.get_model('saim_vit-tiny-p16')
    save_state_dict(model.state_dict(), tmp_path / 'a.pth')
    convert(tmp_path / 'a.pth', tmp_path / 'b.pth', 'timm')
    theirs = timm.create_model(
        'vit_tiny_patch16_224',
        num_classes=0,
        checkpoint_path=str(tmp_path / 'b.pth'),
    ).eval()
    inputs = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(theirs(inputs), model(inputs)[0], **CLOSE)


def assert_same(weights, reference):
    assert set(weights) == set(reference)
    for name, value in reference.items():
        assert torch.equal(weights[name], value), name


def test_huggingface(tmp_path, convert):
    transformers = pytest.importorskip('transformers')
    model = classifier()
    save_state_dict(model.state_dict(), tmp_path / 'a.pth')
    folder = tmp_path / 'vit'
    target = folder / 'model.safetensors'
    convert(tmp_path / 'a.pth', target, 'huggingface', '--num-heads', 4)
    theirs, info = transformers.ViTForImageClassification.from_pretrained(
        folder, output_loading_info=True
    )
    assert not info['missing_keys'] and not info['unexpected_keys']
    with torch.no_grad():
        torch.testing.assert_close(
            theirs.eval()(images()).logits, model(images()), **CLOSE
        )
    convert(target, tmp_path / 'b.pth', 'mmpretrain')
    assert_same(load_state_dict(tmp_path / 'b.pth'), model.state_dict())


@pytest.mark.parametrize('out_type', ['cls_token', 'avg_featmap'])
def test_stock_vision_transformer(out_type):
    """The same names: nothing is converted, in either direction."""
    ours = classifier(out_type=out_type)
    stock = classifier('VisionTransformer', out_type)
    for a, b in ((ours, stock), (stock, ours)):
        shake(a)
        b.load_state_dict(a.state_dict(), strict=True)
        with torch.no_grad():
            torch.testing.assert_close(a(images()), b(images()), **CLOSE)


@pytest.mark.parametrize('neck', [{}, dict(depth=1), dict(share_weights=True)])
def test_the_authors_pretraining_and_back(tmp_path, neck, convert):
    model = pretraining(**neck)
    save_state_dict(model.state_dict(), tmp_path / 'a.pth')
    convert(tmp_path / 'a.pth', tmp_path / 'b.pth', 'authors')
    theirs = torch.load(tmp_path / 'b.pth', weights_only=True)['model']
    assert 'blocks.2.attn.k.weight' in theirs
    assert ('query_blocks.0.attn.q.bias' in theirs) == (
        'share_weights' not in neck
    )
    convert(tmp_path / 'b.pth', tmp_path / 'c.pth', 'mmpretrain')
    assert_same(load_state_dict(tmp_path / 'c.pth'), model.state_dict())


@pytest.mark.parametrize('format', FORMATS)
def test_pretraining_gives_its_encoder(format):
    state_dict = pretraining().state_dict()
    weights = to_format(state_dict, format)
    assert detect_format(weights) == format
    assert_same(
        {
            name: value
            for name, value in from_format(weights, format).items()
            if name.startswith('backbone.')
        },
        {
            name: value
            for name, value in state_dict.items()
            if name.startswith('backbone.')
        },
    )


@pytest.mark.parametrize('format', FORMATS)
def test_a_neck_between_backbone_and_head(format, tmp_path, convert):
    """Its head alone is wrong; its backbone is whole."""
    weights = classifier().state_dict()
    neck = MODELS.build(dict(type='ClsBatchNormNeck', input_features=64))
    probe = {**weights, **neck.state_dict(prefix='neck.')}
    save_state_dict(probe, tmp_path / 'a.pth')
    output = convert(tmp_path / 'a.pth', tmp_path / 'b', format, fails=True)
    assert "error: neck=['neck.bn." in output.splitlines()[-1]
    assert 'Convert the backbone alone' in output
    backbone = {n: v for n, v in probe.items() if n.startswith('backbone.')}
    assert to_format(backbone, format)


def test_simmim_gives_its_encoder():
    """Without the token that stood for masked patches."""
    vit = MODELS.build(dict(type='SimMIMViT', **VIT))
    weights = vit.state_dict(prefix='backbone.')
    assert weights.pop('backbone.mask_token').numel() == 64
    for format in ('timm', 'huggingface'):
        found = to_format(vit.state_dict(prefix='backbone.'), format)
        assert_same(from_format(found, format), weights)


def mae():
    return MODELS.build(mae_config(ARCH))


def mocov3():
    return MODELS.build(
        dict(
            type='MoCoV3',
            backbone=dict(
                type='MoCoV3ViT', arch=ARCH, img_size=32, patch_size=8
            ),
            neck=dict(
                type='NonLinearNeck',
                in_channels=64,
                hid_channels=16,
                out_channels=8,
            ),
            head=dict(
                type='MoCoV3Head',
                predictor=dict(
                    type='NonLinearNeck',
                    in_channels=8,
                    hid_channels=16,
                    out_channels=8,
                ),
                loss=dict(type='CrossEntropyLoss'),
                temperature=1.0,
            ),
        )
    )


def deit():
    return classifier('VisionTransformer')


@pytest.mark.parametrize('build', [mae, mocov3, deit])
def test_the_zoo_of_mmpretrain_loads(tmp_path, build):
    """MAE, MoCo v3 and DeiT, as mmpretrain saves them."""
    source = shake(build())
    save_state_dict(source.state_dict(), tmp_path / 'a.pth')
    pretrained = dict(
        type='Pretrained',
        checkpoint=str(tmp_path / 'a.pth'),
        prefix='backbone.',
    )
    ours = saim_mm.SAIMViT(**VIT, init_cfg=pretrained)
    ours.init_weights()
    stock = MODELS.build(
        dict(type='VisionTransformer', **VIT, init_cfg=pretrained)
    )
    stock.init_weights()
    ours.eval()
    stock.eval()
    with torch.no_grad():
        torch.testing.assert_close(
            ours(images())[0], stock(images())[0], **CLOSE
        )
    for name, value in source.backbone.state_dict().items():
        if name in ours.state_dict():
            assert torch.equal(ours.state_dict()[name], value), name


def test_distilled_deit_loads():
    """Its distillation token and that token's position are left out."""
    source = classifier(
        'DistilledVisionTransformer',
        head=dict(type='DeiTClsHead', num_classes=5, in_channels=64),
    ).backbone
    ours = saim_mm.SAIMViT(**VIT)
    ours.load_state_dict(source.state_dict(), strict=False)
    position = source.pos_embed[:, [0, *range(2, 18)]]
    assert torch.equal(ours.pos_embed, position)


def test_positions_that_cannot_be_resized():
    source = saim_mm.SAIMViT(arch=ARCH, img_size=(16, 40), patch_size=8)
    with pytest.raises(ValueError, match='positions of 10 patches.*4 x 4'):
        saim_mm.SAIMViT(**VIT).load_state_dict(source.state_dict())


def test_safetensors_as_init_cfg(tmp_path):
    """MMEngine's configs read them through this package's loader."""
    source = pretraining()
    save_state_dict(source.state_dict(), tmp_path / 'a.safetensors')
    model = saim_mm.SAIMViT(
        **VIT,
        init_cfg=dict(
            type='Pretrained',
            checkpoint=str(tmp_path / 'a.safetensors'),
            prefix='backbone.',
        ),
    )
    model.init_weights()
    assert_same(model.state_dict(), source.backbone.state_dict())


class Bomb:
    """A pickle that would write a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), 'w')


def test_what_is_refused(tmp_path, convert):
    bomb = tmp_path / 'exploded'
    torch.save(dict(state_dict={}, extra=Bomb(bomb)), tmp_path / 'bomb.pth')
    whole = tmp_path / 'whole.pth'
    save_state_dict(pretraining().state_dict(), whole)
    content = whole.read_bytes()
    (tmp_path / 'half.pth').write_bytes(content[: len(content) // 2])
    (tmp_path / 'half.safetensors').write_bytes(content[:1000])
    (tmp_path / 'empty.pth').write_bytes(b'')
    torch.save(dict(epoch=3), tmp_path / 'none.pth')
    torch.save({'layer1.0.conv1.weight': torch.zeros(1)}, tmp_path / 'cnn.pth')
    timm = to_format(classifier().state_dict(), 'timm')
    torch.save({**timm, 'dist_token': torch.zeros(1)}, tmp_path / 'more.pth')
    for name, message in {
        'bomb.pth': 'can carry code',
        'half.pth': 'truncated',
        'half.safetensors': 'truncated',
        'empty.pth': 'truncated, or not a checkpoint',
        'none.pth': 'must hold weights by name',
        'cnn.pth': 'must be of one of the formats',
        'missing.pth': 'no such file',
        'more.pth': "not weights of the format 'timm': ['dist_token']",
    }.items():
        output = convert(tmp_path / name, tmp_path / 'out', 'timm', fails=True)
        assert message in output, (name, output)
        assert 'Traceback' not in output
        assert not (tmp_path / 'out').exists()
    assert not bomb.exists()


def test_mmengine_refuses_code_too(tmp_path):
    """Resuming and init_cfg go through the same loader."""
    from mmengine.runner import load_checkpoint

    bomb = tmp_path / 'exploded'
    torch.save(dict(state_dict={}, extra=Bomb(bomb)), tmp_path / 'bomb.pth')
    with pytest.raises(ValueError, match='can carry code'):
        load_checkpoint(torch.nn.Linear(1, 1), str(tmp_path / 'bomb.pth'))
    assert not bomb.exists()


def test_huggingface_vit_model(tmp_path, convert):
    """Of pre-training, which has no classifier; and its image processor."""
    transformers = pytest.importorskip('transformers')
    model = pretraining()
    save_state_dict(model.state_dict(), tmp_path / 'a.pth')
    folder = tmp_path / 'vit'
    target = folder / 'model.safetensors'
    convert(tmp_path / 'a.pth', target, 'huggingface', '--num-heads', 4)
    config = transformers.AutoConfig.from_pretrained(folder)
    assert config.architectures == ['ViTModel']
    theirs, info = transformers.ViTModel.from_pretrained(
        folder, add_pooling_layer=False, output_loading_info=True
    )
    assert not info['missing_keys'] and not info['unexpected_keys']
    # Pixels of another size, through their processor and ours.
    pixels = np.random.default_rng(0).integers(0, 256, (50, 40, 3), np.uint8)
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    inputs = processor(pixels, return_tensors='pt').pixel_values
    assert inputs.shape == (1, 3, 32, 32)
    resized = Image.fromarray(pixels).resize((32, 32), Image.BICUBIC)
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (MEAN, STD))
    expected = torch.from_numpy(np.array(resized)).permute(2, 0, 1)
    torch.testing.assert_close(inputs[0], (expected - mean) / std, **CLOSE)
    with torch.no_grad():
        torch.testing.assert_close(
            theirs.eval()(inputs)[0][:, 0],
            model.backbone(inputs)[0],
            **CLOSE,
        )


def test_what_is_written_is_stock_pytorchs(tmp_path, convert, photos):
    """torch.load with its defaults, and mmpretrain's publish_model.py."""
    run = tmp_path / 'run'
    train(config(photos, run, iters=2))
    path = run / 'iter_2.pth'
    stock = torch.load(path)
    ours = load_from_local(path)
    # Where MMEngine does not execute it.
    ours['meta']['cfg'] = ours['meta'].pop('config_text')
    assert ours['meta']['cfg'] == stock['meta']['cfg']
    for part in ('state_dict', 'message_hub', 'optimizer', 'meta'):
        assert stock[part].keys() == ours[part].keys(), part
    logs = stock['message_hub']['log_scalars']['train/loss']
    assert logs['log_history'].shape == (2,)
    toolbox = Path(mmpretrain.__file__).parent / '.mim/tools'
    (tool,) = toolbox.rglob('publish_model.py')
    code, output = call(sys.executable, tool, path, tmp_path / 'out.pth')
    assert code == 0, output
    (published,) = tmp_path.glob('out_*.pth')
    assert_same(load_state_dict(published), stock['state_dict'])


def test_resuming_goes_on_with_the_logs(photos, tmp_path):
    """Which are plain in the file, and MMEngine's own in training."""
    logs = []
    for name, stop in (('whole', None), ('parts', 2)):
        cfg = config(photos, tmp_path / name, iters=4)
        cfg.train_cfg.max_iters = stop or 4
        runner = train(cfg)
        if stop:
            cfg.train_cfg.max_iters = 4
            runner = train(cfg, resume=True)
        logs.append(runner.message_hub.get_scalar('train/loss'))
    assert isinstance(logs[1], HistoryBuffer)
    for a, b in zip(logs[0].data, logs[1].data):
        assert a.tolist() == b.tolist() and len(a) == 4
