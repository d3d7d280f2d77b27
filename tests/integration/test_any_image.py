"""Images of any channels and depth, through the commands."""

import re
import runpy
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers import ROOT, assert_same, bright_and_dark, weights
from mmengine.config import Config
from PIL import Image

import saim_mm
from saim_mm.cli import main
from saim_mm.datasets.pixels import PixelFormat, measure, pixel_format
from saim_mm.engine import recipes
from saim_mm.engine.resume import find_checkpoints
from saim_mm.engine.run import CONFIG, differences
from saim_mm.engine.runner import SAIMRunner

RECIPE = dict(arch='mini', size=32, patch=8, epochs=2)
OPTIONS = {
    'train_dataloader.num_workers': 0,
    'train_dataloader.persistent_workers': False,
}
IN_PROCESS = [f'{name}={value}' for name, value in OPTIONS.items()]


def saim(*words):
    """Call the command in this process; returns what it said."""
    result = CliRunner().invoke(main, [*map(str, words)])
    return result.exit_code, result.output


def pretrain(images, out, *words):
    return saim(
        *('pretrain', images, '--out', out),
        *(x for name, value in RECIPE.items() for x in (f'--{name}', value)),
        *(*IN_PROCESS, *words),
    )


def waves(random, height=40, width=44):
    y, x = np.mgrid[:height, :width]
    across, down = random.uniform(2, 8, 2)
    return 1 + np.sin(x / across) * np.cos(y / down)  # 0 to 2


def write(folder, kind, number=12):
    """Real files: grey of 8 or 16 bit, or a stack of five pages."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for index in range(number):
        if kind == 'stack':
            first, *rest = (
                Image.fromarray(
                    (2000 * (page + 1) * waves(random)).astype(np.uint16)
                )
                for page in range(5)
            )
            first.save(
                folder / f'{index:02}.tif', save_all=True, append_images=rest
            )
            continue
        pixels = waves(random) * (127 if kind == 'gray8' else 2000)
        dtype = np.uint8 if kind == 'gray8' else np.uint16
        Image.fromarray(pixels.astype(dtype)).save(folder / f'{index:02}.png')
    return folder


KINDS = {
    'gray8': (1, 'uint8'),
    'gray16': (1, 'uint16'),
    'stack': (5, 'uint16'),
}


@pytest.fixture(scope='module', params=KINDS)
def trained(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    images = write(folder / 'images', request.param)
    (images / 'broken.png').write_bytes(b'no image')
    code, output = pretrain(images, folder / 'run')
    assert code == 0, output
    return request.param, images, folder / 'run', output


def read(path):
    """A file by Pillow, (height, width, channels), float64."""
    with Image.open(path) as image:
        pages = []
        for number in range(getattr(image, 'n_frames', 1)):
            image.seek(number)
            pages.append(np.array(image, np.float64))
    return np.stack(pages, axis=2)


def test_pretraining(trained):
    """Mean and deviation are the images' own, and stand in config and file."""
    kind, images, out, output = trained
    channels, dtype = KINDS[kind]
    assert f'{channels} channel' in output and f'of {dtype}' in output
    cfg = Config.fromfile(out / CONFIG)
    assert cfg.model.backbone.in_channels == channels
    found = pixel_format(cfg)
    assert (found.channels, found.dtype) == (channels, dtype)
    files = sorted(x for x in images.iterdir() if x.stem != 'broken')
    every = np.concatenate([read(x).reshape(-1, channels) for x in files])
    np.testing.assert_allclose(found.mean, every.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found.std, every.std(0), rtol=1e-5)
    path = find_checkpoints(out)[0]
    text = torch.load(path, weights_only=False)['meta']['cfg']
    kept = pixel_format(Config.fromstring(text, '.py'))
    assert kept == found
    state = weights(path)
    shape = state['backbone.patch_embed.projection.weight'].shape
    assert shape == (96, channels, 8, 8)
    head = [x for n, x in state.items() if n.startswith('head.')]
    assert head[-1].shape[0] == 8 * 8 * channels
    assert 'broken.png' in (out / 'unreadable_files.txt').read_text()


def test_resuming(trained):
    """To the same end to the bit; and with what was measured at first."""
    _, images, out, _ = trained
    last = find_checkpoints(out)[0]
    expected = weights(last)
    last.unlink()
    before = (out / CONFIG).read_text()
    code, output = pretrain(images, out)
    assert code == 0, output
    assert 'step 1/' not in output  # it went on
    assert (out / CONFIG).read_text() == before
    assert_same(weights(last), expected)
    first, second = sorted(images.glob('0*'))[:2]
    content = first.read_bytes()
    try:  # an image has changed since
        first.write_bytes(second.read_bytes())
        cfg, _ = recipes.pretrain_config(images, out, **RECIPE)
        other, _ = recipes.pretrain_config(images, images / 'no', **RECIPE)
    finally:
        first.write_bytes(content)
    kept = pixel_format(Config.fromfile(out / CONFIG))
    assert pixel_format(cfg) == kept != pixel_format(other)


def test_features(trained, tmp_path):
    """Of files normalised by hand, in the file and in Python."""
    kind, images, out, _ = trained
    code, output = saim(
        *('embed', images, '--init', out, '--out', tmp_path / 'f.npz')
    )
    assert code == 0, output
    assert 'broken.png' in output
    found = np.load(tmp_path / 'f.npz')
    files = sorted(x for x in images.iterdir() if x.stem != 'broken')
    assert found['names'].tolist() == [*map(str, files)]
    extract = saim_mm.FeatureExtractor(
        str(out / CONFIG), find_checkpoints(out)[0]
    )
    pixels = torch.from_numpy(read(files[3])).permute(2, 0, 1)
    pixels = pixels.to(torch.uint8 if kind == 'gray8' else torch.float32)
    resized = torch.nn.functional.interpolate(
        pixels.unsqueeze(0), (37, 40), mode='bicubic', antialias=True
    )
    cut = extract.pixels.normalize(resized[..., 2:34, 4:36].float())
    extract.model.out_type = 'raw'
    with torch.no_grad():
        expected = extract.model(cut)[0][:, 1:].mean(dim=1)
    np.testing.assert_allclose(
        found['features'][3:4], expected, rtol=0, atol=1e-4
    )
    array = read(files[3]).astype(KINDS[kind][1])
    features = extract([files[3], array], 'avg_featmap')
    torch.testing.assert_close(features[0], features[1])


def test_other_images_are_no_rows(trained, tmp_path):
    """Of another depth or number of channels: skipped, and said."""
    kind, images, out, _ = trained
    others = [x for x in KINDS if x != kind]
    folder = tmp_path / 'images'
    for name in others:
        write(folder / name, name, 2)
    (folder / 'right').symlink_to(images)
    code, output = saim(
        *('embed', folder, '--init', out, '--out', tmp_path / 'f.npz')
    )
    assert code == 0, output
    names = np.load(tmp_path / 'f.npz')['names']
    assert len(names) == 12 and all('right' in name for name in names)
    for name in others:
        assert f'skipped: {folder}/{name}/00' in output
    code, output = saim(
        *('embed', folder / others[0], '--init', out),
        *('--out', tmp_path / 'f.npz'),
    )
    assert code == 1 and 'and must be' in output.splitlines()[-1]
    code, output = pretrain(
        folder / others[0], tmp_path / 'again', '--init', out
    )
    assert code == 1 and 'as the model is trained on' in output


def test_what_follows(trained, tmp_path):
    """Fine-tuning and prediction see images as pre-training did."""
    kind, images, out, _ = trained
    folder = tmp_path / 'classes'
    for name in ('a', 'b'):
        write(folder / name, kind, 5)
    arguments = ('--epochs', 1, *IN_PROCESS, 'val_dataloader.num_workers=0')
    code, output = saim(
        *('finetune', folder, '--init', out, '--out', tmp_path / 'tuned'),
        *arguments,
    )
    assert code == 0, output
    tuned = Config.fromfile(tmp_path / 'tuned' / CONFIG)
    assert pixel_format(tuned) == pixel_format(Config.fromfile(out / CONFIG))
    code, output = saim('predict', tmp_path / 'tuned', folder / 'a')
    assert code == 0, output
    rows = [x for x in output.splitlines() if x.startswith(str(folder))]
    assert len(rows) == 5
    code, output = saim(
        *('predict', tmp_path / 'tuned', images, '--out', tmp_path / 'x.csv'),
        *('--pictures', tmp_path / 'pictures'),
    )
    assert code == 0 and 'broken.png: must be' in output, output
    drawn = list((tmp_path / 'pictures').rglob('*.jpg'))
    rows = (tmp_path / 'x.csv').read_text().splitlines()[1:]
    assert len(drawn) == len(rows) > 1
    assert all(np.asarray(Image.open(x)).std() > 5 for x in drawn)
    code, output = saim(
        *('finetune', folder, '--init', out, '--out', tmp_path / 'other'),
        *('--channels', 3, *arguments),
    )
    assert code == 1 and 'error: channels=3: must be' in output


@pytest.fixture
def draw(monkeypatch, capsys):
    monkeypatch.syspath_prepend('tools/visualization')

    def run(name, *arguments):
        argv = [f'{name}.py', *map(str, arguments)]
        monkeypatch.setattr(sys, 'argv', argv)
        code = 0
        try:
            runpy.run_path(
                f'tools/visualization/{name}.py', run_name='__main__'
            )
        except SystemExit as error:
            code = error.code
        return code, capsys.readouterr().err

    return run


def test_pictures(trained, draw, tmp_path):
    """Grey of one channel; of more those that are named."""
    kind, images, out, _ = trained
    model = ('--config', out / CONFIG)
    model += ('--checkpoint', find_checkpoints(out)[0])
    image = images / ('03.tif' if kind == 'stack' else '03.png')
    pictures = []
    for name, words in (
        ('reconstruction', ()),
        ('pca', ()),
        ('attention', ()),
        ('order', ('--gif', tmp_path / 'o.gif', '--given', 14)),
    ):
        path = tmp_path / f'{name}.png'
        code, error = draw(name, image, *model, '--out', path, *words)
        assert code == 0, error
        with Image.open(path) as picture:
            pictures.append(np.asarray(picture.convert('RGB')))
    colored = np.ptp(pictures[0].astype(int), axis=2).max() > 40
    assert colored == (kind == 'stack')
    other = tmp_path / 'other.png'
    words = ('--out', other, '--rgb', 4, 3, 0)
    code, error = draw('reconstruction', image, *model, *words)
    if kind == 'stack':
        assert code == 0, error
        assert not np.array_equal(np.asarray(Image.open(other)), pictures[0])
    else:
        assert code != 0 and '--rgb: shown=(4, 3, 0)' in error


def test_pictures_while_training(tmp_path):
    """The hook's are of the images, in the channels' own units."""
    images = write(tmp_path / 'images', 'stack')
    recipes.pretrain(
        images,
        tmp_path / 'run',
        **RECIPE,
        options={
            **OPTIONS,
            'custom_hooks': [dict(type='ReconstructionHook', interval=2)],
        },
    )
    pictures = sorted((tmp_path / 'run').rglob('reconstruction_*.png'))
    assert len(pictures) == 4
    pixels = np.asarray(Image.open(pictures[0]).convert('RGB'))
    assert np.ptp(pixels.astype(int), axis=2).max() > 40


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    return bright_and_dark(tmp_path_factory.mktemp('photos'), 8, 40, 44)


def test_nothing_changes_for_photographs(photos, tmp_path):
    """The config is this package's with the numbers filled in, no more."""
    cfg, line = recipes.pretrain_config(photos, tmp_path)
    assert 'channel' not in line
    changed = differences(
        recipes.load(recipes.PRETRAIN).to_dict(), cfg.to_dict()
    )
    allowed = (
        *('model.backbone.arch', 'model.backbone.img_size'),
        *('model.backbone.patch_size', 'optim_wrapper.', 'param_scheduler'),
        *('train_dataloader.batch_size', 'train_dataloader.num_workers'),
        'train_dataloader.drop_last',
        'train_dataloader.persistent_workers',
        'train_dataloader.dataset.data_root',
        'train_dataloader.dataset.pipeline.0.scale',
        *('train_cfg.', 'default_hooks.', 'work_dir', 'resume'),
        *('auto_scale_lr.', 'model.target_generator.sigma'),
    )
    assert [x for x in changed if not x.startswith(allowed)] == []


def test_rgb_by_either_way_is_the_same_to_the_bit(photos, tmp_path):
    """The way of any channels, on RGB with ImageNet's mean: equal losses."""
    losses, states = [], []
    for name in ('plain', 'channels'):
        cfg, _ = recipes.pretrain_config(
            photos,
            tmp_path / name,
            **RECIPE,
            options=OPTIONS,
        )
        loader = cfg.train_dataloader
        if name == 'channels':
            pixels = PixelFormat(3, 'uint8')
            crop, *others = loader.dataset.pipeline
            crop.type = 'PixelsRandomResizedCrop'
            loader.dataset.pipeline = [pixels.loading, crop, *others]
            cfg.data_preprocessor = dict(
                type='ClsDataPreprocessor', **pixels.scaling
            )
        cfg.default_hooks.logger.interval = 1
        cfg.experiment_name = f'bits_{name}'
        runner = SAIMRunner.from_cfg(cfg)
        runner.train()
        history = runner.message_hub.get_scalar('train/loss').data[0]
        losses.append(history.tolist())
        states.append(runner.model.state_dict())
    assert len(losses[0]) == 8 and losses[0] == losses[1]
    assert_same(*states)


def test_weights_for_other_channels_are_refused(trained, photos, tmp_path):
    """Of RGB into grey, and the other way, with a word on what would help."""
    kind, images, out, _ = trained
    rgb = saim_mm.get_model('saim_vit-mini-p4', patch_size=8)
    path = tmp_path / 'mae.pth'
    torch.save(dict(state_dict=rgb.state_dict()), path)
    channels = KINDS[kind][0]
    code, output = pretrain(
        *(images, tmp_path / 'a', '--init', path, '--channels', channels)
    )
    assert code == 1
    last = output.splitlines()[-1]
    assert f'backbone.in_channels={channels}: must be 3' in last
    # Nothing was trained there, so another try is not another training's.
    assert not (tmp_path / 'a' / CONFIG).exists()
    if kind == 'stack':
        code, output = pretrain(images, tmp_path / 'a')
        assert code == 0, output
    code, output = pretrain(images, tmp_path / 'b', '--init', path)
    if kind == 'stack':  # three cannot be made of five
        assert code == 1 and 'channels=3: must be what' in output
    else:  # weights of others are for RGB
        assert code == 0, output
        cfg = Config.fromfile(tmp_path / 'b' / CONFIG)
        assert cfg.model.backbone.get('in_channels', 3) == 3
    code, output = pretrain(
        *(photos, tmp_path / 'c', '--init', find_checkpoints(out)[0]),
        *('--channels', 3),
    )
    assert code == 1
    assert f'backbone.in_channels=3: must be {channels}' in output


def test_from_scratch(tmp_path):
    """A classifier without pre-training looks at the images itself."""
    for name in ('a', 'b'):
        write(tmp_path / 'classes' / name, 'stack', 3)
    cfg, line = recipes.finetune_config(tmp_path / 'classes', tmp_path / 'x')
    assert cfg.model.backbone.in_channels == 5 and '5 channels' in line
    assert len(pixel_format(cfg).mean) == 5
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        assert loader.dataset.pipeline[0].type == 'LoadPixels'


@pytest.mark.slow
def test_comparing(tmp_path):
    """All starts see five channels; those of validation are not measured."""
    data, out = tmp_path / 'classes', tmp_path / 'out'
    for name in ('a', 'b'):
        write(data / name, 'stack', 5)
        for number, path in enumerate(sorted((data / name).iterdir())):
            # No image stands in both parts.
            path.write_bytes(path.read_bytes() + f'{name}{number}'.encode())
    recipe = {**RECIPE, 'epochs': 1, 'pretrain_epochs': 1}
    saim_mm.compare(
        data,
        out,
        seeds=1,
        fractions=[1.0],
        options=OPTIONS,
        **recipe,
    )
    pixels = pixel_format(Config.fromfile(out / 'pretrain' / CONFIG))
    files = (out / 'images.txt').read_text().split()
    assert len(files) == 8
    found = measure([data / name for name in files], 5, 'uint16')
    assert (pixels.mean, pixels.std) == found
    configs = list((out / 'finetune').glob(f'*/{CONFIG}'))
    assert len(configs) == 2
    for path in configs:
        cfg = Config.fromfile(path)
        assert pixel_format(cfg) == pixels
        assert cfg.model.backbone.in_channels == 5


def test_only_what_is_trained_on_is_measured(tmp_path):
    folder = write(tmp_path / 'images', 'gray16', 6)
    names = ['01.png', '04.png']
    cfg, line = recipes.pretrain_config(folder, tmp_path / 'run', images=names)
    assert line.startswith('2 images')
    pixels = pixel_format(cfg)
    found = measure([folder / name for name in names], 1, 'uint16')
    assert (pixels.mean, pixels.std) == found
    every = measure(sorted(folder.iterdir()), 1, 'uint16')
    assert found != every


def test_two_kinds_in_a_folder(tmp_path):
    write(tmp_path / 'images/a', 'gray16', 3)
    write(tmp_path / 'images/b', 'stack', 3)
    code, output = pretrain(tmp_path / 'images', tmp_path / 'run')
    assert code == 1
    last = output.splitlines()[-1]
    assert '00.png has 1 channel of uint16' in last
    assert '00.tif has 5 channels of uint16' in last
    assert 'a folder of its own' in last
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('model.backbone.in_channels=3', 'model.backbone.in_channels=3: must'),
        ('data_preprocessor.mean=[1.0,2.0]', 'data_preprocessor.mean='),
    ],
)
def test_configs_that_contradict_themselves(tmp_path, option, message):
    images = write(tmp_path / 'images', 'stack', 4)
    code, output = pretrain(images, tmp_path / 'run', option)
    assert code == 1 and message in output.splitlines()[-1]
    assert not (tmp_path / 'run' / CONFIG).exists()


def test_the_config_of_the_documentation(tmp_path):
    """As it stands there, but for the sizes, on images of five channels."""
    images = write(tmp_path / 'images', 'stack', 4)
    page = (ROOT / 'docs/data.md').read_text()
    [text] = re.findall(r'^```python\n(# five_chan.*?)^```', page, re.M | re.S)
    path = tmp_path / 'five_channels.py'
    path.write_text(text.replace("'configs/", f"'{ROOT}/configs/"))
    cfg = Config.fromfile(path)
    cfg.merge_from_dict(OPTIONS)
    cfg.model.backbone.update(arch='saim-mini', img_size=32, patch_size=8)
    loader = cfg.train_dataloader
    loader.dataset.data_root = str(images)
    loader.dataset.pipeline[1].scale = 32
    loader.update(batch_size=2, drop_last=False)
    cfg.optim_wrapper.type = 'OptimWrapper'
    cfg.train_cfg.max_epochs = 1
    cfg.param_scheduler = []
    cfg.work_dir = str(tmp_path / 'run')
    runner = SAIMRunner.from_cfg(cfg)
    runner.train()
    assert runner.iter == 2
    assert runner.model.backbone.in_channels == 5
