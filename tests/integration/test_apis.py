"""Models and features in Python, ONNX, and the position embedding's size."""

import runpy
import sys

import mmcv
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import FOLDER
from mmengine.config import Config
from mmpretrain.registry import MODELS
from PIL import Image

import saim_mm
from saim_mm.checkpoint.formats import to_format
from saim_mm.checkpoint.loader import save_state_dict

TINY = 'saim_vit-tiny-p4'


@pytest.fixture(scope='module')
def pretrained(tmp_path_factory):
    """A pre-training checkpoint of the tiny model, and its encoder."""
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type='SAIM',
            backbone=dict(
                type='SAIMViT', arch='deit-tiny', img_size=32, patch_size=4
            ),
            neck=dict(type='SAIMDecoder', depth=1),
            head=dict(type='SAIMHead'),
            target_generator=dict(type='SmoothedPatchTarget'),
        )
    )
    model.init_weights()
    path = tmp_path_factory.mktemp('weights') / 'saim.pth'
    save_state_dict(model.state_dict(), path)
    return path, model.backbone.eval()


@pytest.mark.parametrize('name', saim_mm.list_models())
def test_every_model_builds(name):
    model = saim_mm.get_model(name)
    assert not model.training
    size = model.img_size
    if 'large' not in name:
        with torch.no_grad():
            assert model(torch.zeros(1, 3, *size))[0].shape == (
                1,
                model.embed_dims,
            )


@pytest.mark.parametrize('format', ['pretraining', 'timm', 'huggingface'])
def test_weights_of_any_layout(pretrained, tmp_path, format):
    path, encoder = pretrained
    if format != 'pretraining':
        weights = to_format(torch.load(path)['state_dict'], format)
        path = tmp_path / 'other.safetensors'
        save_state_dict(weights, path)
    model = saim_mm.get_model(TINY, path)
    for name, value in encoder.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_what_get_model_refuses(pretrained, tmp_path):
    path, encoder = pretrained
    with pytest.raises(ValueError, match="name='vit'.*saim_vit-base-p16"):
        saim_mm.get_model('vit')
    with pytest.raises(FileNotFoundError, match='no such file'):
        saim_mm.get_model(TINY, tmp_path / 'no.pth')
    with pytest.raises(ValueError, match='arch.*patch_size'):
        saim_mm.get_model('saim_vit-small-p16', path)
    with pytest.raises(ValueError, match='patch_size=16'):
        saim_mm.get_model('saim_vit-tiny-p16', path)
    weights = encoder.state_dict()
    part = {k: v for k, v in weights.items() if 'layers.3.' not in k}
    save_state_dict(part, tmp_path / 'part.pth')
    with pytest.raises(ValueError, match='lacks.*layers.3.ln1.weight'):
        saim_mm.get_model(TINY, tmp_path / 'part.pth')


def test_features_of_every_input(pretrained, photos):
    path, encoder = pretrained
    extract = saim_mm.FeatureExtractor(TINY, path)
    files = sorted(photos.iterdir())[:3]
    expected = extract(files)
    assert expected.shape == (3, 192) and expected.dtype == torch.float32
    close = dict(rtol=0, atol=1e-5)
    for inputs in (
        [str(f) for f in files],
        [Image.open(f) for f in files],
        [mmcv.imread(str(f)) for f in files],
    ):
        torch.testing.assert_close(extract(inputs), expected, **close)
    torch.testing.assert_close(extract(files[1]), expected[1:2], **close)
    folder = extract(photos, batch_size=7)
    assert folder.shape == (80, 192)
    torch.testing.assert_close(folder[:3], expected, **close)
    grey = Image.open(files[0]).convert('L')
    assert extract(grey).shape == (1, 192)


def test_features_are_the_backbones(pretrained, photos):
    """Every kind and layer; the pixels are normalised by hand."""
    path, encoder = pretrained
    extract = saim_mm.FeatureExtractor(TINY, path)
    file = sorted(photos.iterdir())[0]
    image = Image.open(file)  # 80 x 80
    image = image.resize((37, 37), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(image)[2:34, 2:34]).float()
    mean = torch.tensor([123.675, 116.28, 103.53])
    std = torch.tensor([58.395, 57.12, 57.375])
    inputs = ((pixels - mean) / std).permute(2, 0, 1).unsqueeze(0)
    for layer in (-1, 4):
        encoder.out_type, encoder.out_indices = 'raw', [layer % 12]
        with torch.no_grad():
            tokens = encoder(inputs)[0]
        for out_type, expected in {
            'raw': tokens,
            'cls_token': tokens[:, 0],
            'avg_featmap': tokens[:, 1:].mean(1),
            'featmap': tokens[:, 1:].reshape(1, 8, 8, 192).permute(0, 3, 1, 2),
        }.items():
            torch.testing.assert_close(
                extract(file, out_type, layer), expected, rtol=0, atol=1e-5
            )


def test_what_the_extractor_refuses(pretrained, tmp_path):
    extract = saim_mm.FeatureExtractor(TINY, pretrained[0])
    (tmp_path / 'text.jpg').write_text('no image')
    image = np.zeros((8, 8, 3), np.uint8)
    for arguments, message in (
        ((tmp_path / 'text.jpg',), r'text\.jpg: must be a readable image'),
        ((tmp_path / 'none.jpg',), r'none\.jpg: must be a readable image'),
        (([],), 'at least one image'),
        ((image.astype(float),), 'array of float64'),
        ((image, 'mean'), "out_type='mean': must be one of"),
        ((image, 'raw', 12), 'layer=12: must be one of the 12 blocks'),
        ((image, 'raw', 1, 0), 'batch_size=0: must be a positive integer'),
    ):
        with pytest.raises(ValueError, match=message):
            extract(*arguments)
    (tmp_path / 'empty').mkdir()
    with pytest.raises(ValueError, match='at least one image'):
        extract(tmp_path / 'empty')


def test_an_extractor_of_no_weights(tmp_path):
    """Or of a model that it would not be of."""
    cfg = Config.fromfile(FOLDER)
    cfg.dump(tmp_path / 'config.py')
    with pytest.raises(ValueError, match='pretrained=None: must be a checkp'):
        saim_mm.FeatureExtractor(tmp_path / 'config.py')
    cfg.model.backbone.type = 'VisionTransformer'
    cfg.dump(tmp_path / 'config.py')
    with pytest.raises(ValueError, match="type='VisionTransformer': must be"):
        saim_mm.FeatureExtractor(tmp_path / 'config.py', 'x.pth')
    vit = saim_mm.get_model(TINY)
    with pytest.raises(ValueError, match="SAIMViT.*{'img_size': 48} can be"):
        saim_mm.FeatureExtractor(vit, img_size=48)


@pytest.mark.parametrize(
    ('size', 'given'),
    [
        ((32, 64), (80, 160)),
        ((64, 32), (300, 100)),
        ((32, 32), (32, 32)),  # as it is
    ],
)
def test_what_an_extractor_sees(pretrained, size, given):
    """Nearly all of an image of the model's aspect; the middle of others."""
    vit = saim_mm.get_model(TINY, pretrained[0], img_size=size)
    extract = saim_mm.FeatureExtractor(vit)
    y, x = np.mgrid[: given[0], : given[1]]
    image = np.stack([y, x, x], -1) * 255 // max(given)
    seen = extract.pipeline(dict(img=image.astype(np.uint8)))['inputs']
    assert seen.shape[1:] == size
    rows, columns = (
        (seen[n].max() - seen[n].min()) / 255 * max(given) for n in (0, 1)
    )
    scale = min(g / s for g, s in zip(given, size))
    share = 1 if size == given else 224 / 256
    expected = [share * scale * s for s in size]
    assert [rows, columns] == pytest.approx(expected, abs=0.06 * max(given))


@pytest.fixture
def mixed(photos, tmp_path):
    """A folder with sub-folders, three images and three broken files."""
    good = sorted(photos.iterdir())[:3]
    (tmp_path / 'a/deep').mkdir(parents=True)
    places = ('a/deep/1.jpg', 'a/0.jpg', 'z.jpg')
    for file, place in zip(good, places):
        (tmp_path / place).write_bytes(file.read_bytes())
    (tmp_path / 'a/text.jpg').write_text('no image')
    (tmp_path / 'b.png').write_bytes(b'')
    # OpenCV would fill its second half with grey.
    whole = good[0].read_bytes()
    (tmp_path / 'half.jpg').write_bytes(whole[: len(whole) // 2])
    return tmp_path


@pytest.mark.parametrize('batch_size', [1, 2, 32])
def test_folders_with_broken_files(pretrained, photos, mixed, batch_size):
    """Each row is of the image that is named beside it, whatever is broken."""
    extract = saim_mm.FeatureExtractor(TINY, pretrained[0])
    with pytest.warns(UserWarning, match='3 of 6 images cannot be read'):
        names, features = extract(
            mixed, batch_size=batch_size, return_names=True
        )
    expected = ['a/0.jpg', 'a/deep/1.jpg', 'z.jpg']
    assert names == [str(mixed / name) for name in expected]
    good = sorted(photos.iterdir())
    torch.testing.assert_close(
        features,
        extract([good[1], good[0], good[2]]),
        rtol=0,
        atol=1e-5,
    )
    assert extract.skipped == []  # of the last call
    with pytest.warns(UserWarning) as said:
        extract(mixed)
    assert len(said) == 1  # and each is named once
    for name in ('a/text.jpg', 'b.png', 'half.jpg'):
        assert str(said[0].message).count(str(mixed / name)) == 1
    assert [x for x, _ in extract.skipped] == [
        str(mixed / x) for x in ('a/text.jpg', 'b.png', 'half.jpg')
    ]
    assert 'truncated' in extract.skipped[-1][1]


def test_what_is_asked_for_by_name_is_read_or_refused(pretrained, mixed):
    extract = saim_mm.FeatureExtractor(TINY, pretrained[0])
    files = [mixed / 'z.jpg', mixed / 'half.jpg', mixed / 'a/0.jpg']
    with pytest.raises(ValueError, match=r'half\.jpg: must be a readable'):
        extract(files)
    with pytest.warns(UserWarning, match='1 of 3'):
        names, features = extract(
            files, return_names=True, skip_unreadable=True
        )
    assert names == [str(files[0]), str(files[2])] and len(features) == 2
    with pytest.raises(ValueError, match='must be a readable'):
        extract(mixed, skip_unreadable=False)
    # A list may hold anything; what is no file is named by its place.
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.warns(UserWarning, match='1 of 5'):
        names, _ = extract([image, files[0], mixed / 'a'], return_names=True)
    assert names[0] == '0' and names[1] == str(files[0])
    assert len(names) == 4
    for file in mixed.rglob('*.jpg'):
        file.write_bytes(b'')
    with pytest.raises(ValueError, match='images=.*none of them can'):
        extract(mixed)


@pytest.mark.parametrize('readout', ['cls_token', 'patch_mean'])
def test_readouts_with_names(pretrained, mixed, readout):
    extract = saim_mm.FeatureExtractor(TINY, pretrained[0])
    with pytest.warns(UserWarning, match='skipped'):
        names, features = extract(mixed, readout=readout, return_names=True)
    out_type = {'patch_mean': 'avg_featmap'}.get(readout, readout)
    torch.testing.assert_close(features, extract(names, out_type))


@pytest.mark.parametrize('mode', ['bilinear', 'bicubic'])
@pytest.mark.parametrize('cls_token', [True, False])
@pytest.mark.parametrize('size', [(48, 48), (24, 64), (32, 32)])
def test_position_embedding_of_another_size(pretrained, mode, cls_token, size):
    """As torch's interpolate: at loading, and for inputs of another size."""
    path, source = pretrained
    grid = tuple(s // 4 for s in size)
    old = source.pos_embed.detach()
    patches = old[:, 1:].unflatten(1, (8, 8)).permute(0, 3, 1, 2)
    patches = F.interpolate(patches, grid, mode=mode, align_corners=False)
    expected = patches.flatten(2).transpose(1, 2)
    if cls_token:
        expected = torch.cat([old[:, :1], expected], dim=1)

    options = dict(
        interpolate_mode=mode, with_cls_token=cls_token, out_type='featmap'
    )
    loaded = saim_mm.get_model(TINY, path, img_size=size, **options)
    close = dict(rtol=0, atol=1e-6)
    torch.testing.assert_close(loaded.pos_embed.detach(), expected, **close)
    # A model of the old size resizes it for each input.
    usual = saim_mm.get_model(TINY, path, **options)
    images = torch.randn(1, 3, *size)
    with torch.no_grad():
        torch.testing.assert_close(
            usual(images)[0], loaded(images)[0], rtol=0, atol=1e-4
        )


def test_onnx(pretrained, tmp_path, monkeypatch, capsys):
    pytest.importorskip('onnxruntime')
    pytest.importorskip('onnxscript')
    out = tmp_path / 'saim.onnx'
    command = ['export_onnx.py', TINY, str(pretrained[0]), str(out)]
    monkeypatch.setattr(sys, 'argv', command)
    runpy.run_path('tools/deployment/export_onnx.py', run_name='__main__')
    output = capsys.readouterr().out
    difference = float(output.split('PyTorch by ')[1].split(' ')[0])
    assert out.exists() and difference < 1e-4
