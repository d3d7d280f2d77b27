"""The pictures, and the tools that draw them."""

import runpy
import sys

import numpy as np
import pytest
import torch
from helpers import TINY
from helpers import mae as mae_config
from matplotlib.text import Text
from mmengine.config import Config
from mmpretrain.registry import MODELS
from PIL import Image

from saim_mm import (
    PredictionOrder,
    ReconstructionHook,
    SAIMRunner,
    SAIMViT,
)
from saim_mm.models.order import literal_masks
from saim_mm.models.orders import build_order
from saim_mm.models.target import patchify
from saim_mm.visualization.attention import (
    attention_maps,
    attention_rollout,
    draw_attention,
)
from saim_mm.visualization.figures import figure_to_array
from saim_mm.visualization.order import draw_order, generate
from saim_mm.visualization.pca import draw_pca, pca_to_rgb
from saim_mm.visualization.predictions import draw_columns, paint_labels
from saim_mm.visualization.reconstruction import (
    draw_reconstructions,
    reconstruct,
    statistics_alone,
)

PRETRAIN = 'configs/pretrain/saim_vit-demo-p4_1xb64-coslr-40e_digits.py'
CLASSIFIER = 'configs/classification/vit-demo-p4_1xb50-coslr-100e_digits.py'
FOLDER = 'configs/pretrain/saim_vit-demo-p8_1xb64-coslr-500i_folder.py'
TOOLS = 'tools/visualization/'


def model(normalize=True):
    cfg = Config.fromfile(PRETRAIN)
    cfg.model.backbone.update(arch=TINY, img_size=32, patch_size=8)
    cfg.model.target_generator.normalize = normalize
    cfg.model.data_preprocessor = cfg.data_preprocessor
    torch.manual_seed(0)
    built = MODELS.build(cfg.model)
    built.init_weights()
    return built.eval()


@pytest.fixture
def image():
    return 255 * torch.rand(3, 32, 32, generator=torch.manual_seed(0))


def test_masks():
    noise = torch.rand(2, 9, generator=torch.manual_seed(0))
    content, query = literal_masks(PredictionOrder.from_noise(noise))
    for b in range(2):
        for i in range(9):
            for j in range(9):
                assert content[b, i, j] == (noise[b, j] <= noise[b, i])
                assert query[b, i, j] == (noise[b, j] < noise[b, i])


@pytest.mark.parametrize('with_cls_token', [True, False])
def test_attention_maps_are_what_the_model_uses(with_cls_token):
    torch.manual_seed(0)
    vit = SAIMViT(
        TINY, 32, 8, with_cls_token=with_cls_token, out_type='raw'
    ).eval()
    outputs = []
    vit.layers[2].attn.register_forward_hook(
        lambda module, inputs, output: outputs.append((inputs[0], output))
    )
    means, heads = attention_maps(vit, torch.randn(2, 3, 24, 40), layer=2)
    tokens = 15 + with_cls_token
    assert [m.shape for m in means] == [(2, tokens, tokens)] * 4
    assert heads.shape == (2, 3, tokens, tokens)
    torch.testing.assert_close(heads.mean(dim=1), means[2])
    ((x, expected),) = outputs
    attention = vit.layers[2].attn
    v = attention.qkv(x)[..., -24:].unflatten(-1, (3, 8)).transpose(1, 2)
    out = attention.proj((heads @ v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(out, expected)
    rollout = attention_rollout(means)
    torch.testing.assert_close(rollout.sum(-1), torch.ones(2, tokens))
    # Of a single block: half the residual, half its mean attention.
    one = attention_rollout(means[:1])
    expected = (means[0] + torch.eye(tokens)) / 2
    torch.testing.assert_close(one, expected)


@pytest.mark.parametrize('normalize', [True, False])
def test_completion(image, normalize):
    saim = model(normalize)
    order = saim.sample_order(image[None])
    number = order.indices.shape[1]
    whole = list(generate(saim, image, order, number))
    assert len(whole) == 1
    torch.testing.assert_close(whole[0], image, atol=1e-3, rtol=0)

    frames = list(generate(saim, image, order, 6))
    assert len(frames) == 1 + number - 6
    patches = [patchify(frame[None], 8)[0] for frame in frames]
    given = order.indices[0, :6]
    original = patchify(image[None], 8)[0]
    torch.testing.assert_close(
        patches[0][given], original[given], atol=1e-3, rtol=0
    )
    rest = order.indices[0, 6:]
    torch.testing.assert_close(
        patches[0][rest],
        torch.full_like(patches[0][rest], 127.5),
        atol=1e-3,
        rtol=0,
    )
    for step, (before, after) in enumerate(zip(patches, patches[1:]), 6):
        changed = (before != after).any(dim=1).nonzero().flatten().tolist()
        assert changed == [order.indices[0, step]]
    # The first prediction has only true patches before it.
    _, predicted = reconstruct(saim, image[None], order)
    torch.testing.assert_close(
        patches[1][rest[0]],
        patchify(predicted, 8)[0, rest[0]],
        atol=1e-3,
        rtol=1e-5,
    )


def test_pca_tells_regions_apart():
    torch.manual_seed(0)
    centres = 10 * torch.randn(4, 16)
    labels = torch.randint(4, (2, 5, 6))
    features = centres[labels] + 0.01 * torch.randn(2, 5, 6, 16)
    colours = pca_to_rgb(features.permute(0, 3, 1, 2))
    assert colours.shape == (2, 3, 5, 6)
    assert 0 <= colours.min() and colours.max() <= 255
    colours = colours.permute(0, 2, 3, 1)
    means = torch.stack([colours[labels == n].mean(0) for n in range(4)])
    spread = max(colours[labels == n].std(0).max() for n in range(4))
    assert torch.pdist(means).min() > 20 * spread


def test_bad_arguments(image):
    vit = SAIMViT(TINY, 32, 8).eval()
    with pytest.raises(ValueError, match=r'x 0 to 31, y 0 to 31'):
        draw_attention(vit, image, [(32, 0)])
    with pytest.raises(ValueError, match='layer=4: must be one of the 4'):
        draw_attention(vit, image, [(0, 0)], layer=4)
    order = build_order('raster').sample(1, (4, 4), 'cpu')
    with pytest.raises(ValueError, match=r'point=\(0, -1\): must be within'):
        draw_order(order, image, 8, (0, -1))
    with pytest.raises(ValueError, match='given=17: must be 0 to 16'):
        next(generate(model(), image, order, 17))
    windows = SAIMViT(
        TINY,
        32,
        8,
        with_cls_token=False,
        out_type='raw',
        window_size=2,
        global_attn_indexes=[3],
    )
    with pytest.raises(ValueError, match='whose blocks all attend to the'):
        attention_maps(windows, image[None])


@pytest.mark.parametrize('number', [1, 3])
def test_what_pictures_say_is_all_there(image, number):
    """Blocks, masks and rows have their names, and no letter is cut off."""
    saim = model()
    images = image.expand(number, 3, 32, 32)
    vit = SAIMViT(TINY, 32, 8).eval()
    points = [(5, 5)] * number
    order = saim.sample_order(image[None])
    pictures = {
        ('image', '(block 3)'): draw_pca(vit, images),
        ('block 2, head 1', 'blocks 0 to 3', '%'): draw_attention(
            vit, image, points, layer=2
        ),
        ('white: patch i sees j', 'white: i is predicted'): draw_order(
            order, image, 8, (5, 5)
        ),
        ('original', 'alone'): draw_reconstructions(saim, images),
    }
    for expected, figure in pictures.items():
        figure_to_array(figure)
        box = figure.get_tightbbox()
        assert box.min.min() >= 0, expected
        assert (box.max <= figure.get_size_inches()).all(), expected
        texts = [text.get_text() for text in figure.findobj(Text)]
        for words in expected:
            assert any(words in text for text in texts), words


def test_a_sheet_says_which_colour_is_which_class():
    image = np.zeros((24, 32, 3), np.uint8)
    labels = np.zeros((24, 32), np.uint8)
    labels[:, 16:] = 1
    labels[0] = 255  # void
    colours = {'sky': [200, 0, 0], 'tree': [0, 200, 0]}
    painted = paint_labels(image, labels, list(colours.values()), opacity=1)
    assert painted[5, [0, -1]].tolist() == [[200, 0, 0], [0, 200, 0]]
    assert painted[0].max() == 0
    long = 'from scratch, with a title that is longer than its column'
    figure = draw_columns({'image': [image], long: [painted]}, colours)
    figure_to_array(figure)
    box = figure.get_tightbbox()
    assert box.min.min() >= 0
    assert (box.max <= figure.get_size_inches()).all()
    titles = [axis.title.get_window_extent() for axis in figure.axes]
    assert not titles[0].count_overlaps(titles[1:])
    (legend,) = figure.legends
    said = [text.get_text() for text in legend.get_texts()]
    shown = [patch.get_facecolor()[:3] for patch in legend.get_patches()]
    assert said == list(colours)
    np.testing.assert_allclose(np.multiply(shown, 255), [*colours.values()])


@pytest.fixture
def configs(checkpoint, tmp_path):
    """Of pre-training and of a classifier, for the checkpoint."""
    paths = []
    for name, path in (('saim', PRETRAIN), ('vit', CLASSIFIER)):
        cfg = Config.fromfile(path)
        cfg.model.backbone.update(arch=TINY, img_size=32, patch_size=8)
        cfg.dump(tmp_path / f'{name}.py')
        paths.append(tmp_path / f'{name}.py')
    return paths


@pytest.fixture
def draw(monkeypatch, capsys):
    """Calls a tool; returns its exit code and what it printed."""
    monkeypatch.syspath_prepend(TOOLS)

    def run(name, *arguments):
        argv = [f'{name}.py', *map(str, arguments)]
        monkeypatch.setattr(sys, 'argv', argv)
        code = 0
        try:
            runpy.run_path(f'{TOOLS}{name}.py', run_name='__main__')
        except SystemExit as error:
            code = error.code
        captured = capsys.readouterr()
        return code, f'{captured.out}{captured.err}{code}'

    return run


def is_picture(path, frames=1):
    with Image.open(path) as picture:
        assert np.asarray(picture.convert('L')).std() > 10
        return getattr(picture, 'n_frames', 1) == frames


def mae(tmp_path):
    cfg = Config(
        dict(
            default_scope='mmpretrain',
            model=dict(
                **mae_config(TINY),
                data_preprocessor=dict(
                    type='SelfSupDataPreprocessor',
                    mean=[123.675, 116.28, 103.53],
                    std=[58.395, 57.12, 57.375],
                    to_rgb=True,
                ),
            ),
        )
    )
    cfg.dump(tmp_path / 'mae.py')
    built = MODELS.build(cfg.model)
    built.init_weights()
    torch.save(dict(state_dict=built.state_dict()), tmp_path / 'mae.pth')
    return tmp_path / 'mae.py', tmp_path / 'mae.pth'


def test_reconstruction(draw, configs, checkpoint, photos, tmp_path):
    out = tmp_path / 'new folder' / 'picture.png'
    code, output = draw(
        *('reconstruction', photos, '--config', configs[0]),
        *('--checkpoint', checkpoint, '--out', out),
        *('--orders', 2, '--mae', *mae(tmp_path)),
    )
    assert code == 0, output
    assert f'wrote {out}' in output and is_picture(out)
    code, output = draw(
        *('reconstruction', photos, '--config', configs[0]),
        *('--checkpoint', checkpoint, '--out', out),
        *('--size', 48, 64),
    )
    assert code == 0, output


def test_mean_and_contrast_alone(image):
    """Each patch has the target's own, and nothing else of it."""
    saim = model()
    blurred, _ = reconstruct(saim, image[None])
    alone = statistics_alone(saim, image[None])
    mean, std = saim.data_preprocessor.mean, saim.data_preprocessor.std
    ours, theirs = (patchify((x - mean) / std, 8) for x in (alone, blurred))
    statistics = saim.target_generator.statistics
    for one, other in zip(statistics(ours), statistics(theirs)):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    detail = [x - x.mean(dim=-1, keepdim=True) for x in (ours, theirs)]
    likeness = torch.cosine_similarity(*(x.flatten() for x in detail), dim=0)
    assert likeness.abs() < 0.1


def test_attention_and_pca(draw, configs, checkpoint, photos, tmp_path):
    """Of either config, at another size; several points and images."""
    images = sorted(photos.iterdir())[:2]
    out = tmp_path / 'a.png'
    code, output = draw(
        *('attention', *images, '--config', configs[0]),
        *('--checkpoint', checkpoint, '--out', out, '--head', 0),
        *('--size', 40, 64, '--point', '3,39', '--point', '63,0'),
    )
    assert code == 0, output
    assert is_picture(tmp_path / 'a_0.png') and is_picture(
        tmp_path / 'a_1.png'
    )
    code, output = draw(
        *('pca', *images, '--config', configs[1], '--checkpoint', checkpoint),
        *('--out', out, '--layer', 1),
    )
    assert code == 0, output
    assert is_picture(out)


def test_any_backbone_is_drawn(draw, configs, photos, tmp_path):
    """Every argument of it counts, such as that its qkv has no bias."""
    cfg = Config.fromfile(configs[1])
    cfg.model.backbone.qkv_bias = False
    cfg.dump(tmp_path / 'config.py')
    vit = SAIMViT(TINY, 32, 8, qkv_bias=False)
    torch.save(dict(state_dict=vit.state_dict()), tmp_path / 'vit.pth')
    code, output = draw(
        *('attention', sorted(photos.iterdir())[0], '--head', 0),
        *('--config', tmp_path / 'config.py'),
        *('--checkpoint', tmp_path / 'vit.pth', '--out', tmp_path / 'a.png'),
    )
    assert code == 0, output
    assert is_picture(tmp_path / 'a.png')


def test_order(draw, configs, checkpoint, photos, tmp_path):
    out, gif = tmp_path / 'o.png', tmp_path / 'o.gif'
    code, output = draw(
        *('order', photos, '--config', configs[0]),
        *('--checkpoint', checkpoint, '--out', out),
        *('--gif', gif, '--given', 10, '--point', '31,0'),
    )
    assert code == 0, output
    assert '10 of 16 patches given' in output
    assert is_picture(out)
    assert is_picture(gif, frames=1 + 6 + 1)


def test_an_order_by_name(draw, configs, checkpoint, photos, tmp_path):
    common = ('order', photos, '--config', configs[0])
    common += ('--checkpoint', checkpoint, '--out')
    pictures = []
    for name in ('stochastic', 'raster', 'spiral'):
        out = tmp_path / f'{name}.png'
        code, output = draw(*common, out, '--order', name)
        assert code == 0, output
        pictures.append(out.read_bytes())
    assert len(set(pictures)) == 3
    assert not list(tmp_path.glob('*.gif'))  # none was asked for
    code, output = draw(*common, tmp_path / 'no.png', '--order', 'rastre')
    assert code != 0 and "order='rastre': must be" in output, output
    assert not (tmp_path / 'no.png').exists()

    # Without a decoder nothing tells the encoder which patch is next.
    cfg = Config.fromfile(configs[0])
    cfg.merge_from_dict({'model.order': 'raster', 'model.neck.depth': 0})
    cfg.dump(tmp_path / 'aim.py')
    weights = torch.load(checkpoint, weights_only=True)['state_dict']
    weights = {n: x for n, x in weights.items() if not n.startswith('neck.')}
    torch.save(weights, tmp_path / 'aim.pth')
    common = ('order', photos, '--config', tmp_path / 'aim.py')
    common += ('--checkpoint', tmp_path / 'aim.pth', '--out')
    assert draw(*common, tmp_path / 'aim.png')[0] == 0
    code, output = draw(*common, tmp_path / 'no.png', '--order', 'stochastic')
    assert code != 0 and "order='StochasticOrder': must be" in output, output


def test_what_cannot_be_drawn(draw, configs, checkpoint, photos, tmp_path):
    image = sorted(photos.iterdir())[0]
    encoder = tmp_path / 'encoder.pth'
    weights = torch.load(checkpoint, weights_only=True)['state_dict']
    torch.save(
        {n: x for n, x in weights.items() if n.startswith('backbone.')},
        encoder,
    )
    text = tmp_path / 'text.jpg'
    text.write_text('no image')
    out = ('--out', tmp_path / 'x.png')
    for arguments, message in (
        (('reconstruction', 1, checkpoint, image), 'of type SAIM'),
        (('order', 0, encoder, image), 'holds no decoder and head'),
        (
            ('attention', 0, encoder, image, '--point', '99,0'),
            'point=(99, 0): must be within the image: x 0 to 31',
        ),
        (
            ('attention', 0, encoder, image, '--layer', 4),
            'one of the 4 blocks, 0 to 3',
        ),
        (
            ('attention', 0, encoder, image, '--head', 3),
            'head=3: must be one of the 3 heads, 0 to 2',
        ),
        (('pca', 0, encoder, text), 'text.jpg: must be a readable'),
        (('pca', 0, 'gone.pth', image), 'gone.pth: no such file'),
        (('pca', 0, 'saim_mm://gone', image), 'has no weights of that name'),
        (('pca', 0, encoder, tmp_path / 'y'), 'no such file or'),
    ):
        name, number, file, *rest = arguments
        code, output = draw(
            *(name, *rest, '--config', configs[number]),
            *('--checkpoint', file, *out),
        )
        assert code != 0 and message in output, output
    code, output = draw('pca', image, '--checkpoint', encoder, *out)
    assert code != 0 and '--config: needed too' in output
    assert not (tmp_path / 'x.png').exists()


@pytest.mark.parametrize('order', ['stochastic', 'raster'])
def test_hook(photos, tmp_path, order):
    """Pictures are written; the training is the same to the bit."""
    weights = []
    for name, hooks in (
        ('with', [dict(type='ReconstructionHook', interval=2, num_images=3)]),
        ('without', []),
    ):
        cfg = Config.fromfile(FOLDER)
        cfg.model.backbone.update(arch=TINY)
        cfg.model.order = order
        cfg.train_dataloader.dataset.data_root = str(photos)
        cfg.train_dataloader.update(
            batch_size=4, num_workers=0, persistent_workers=False
        )
        cfg.train_cfg.max_iters = 4
        cfg.custom_hooks = hooks
        cfg.work_dir = str(tmp_path / name)
        cfg.experiment_name = f'{order}_{name}'
        cfg.visualizer.name = cfg.experiment_name
        runner = SAIMRunner.from_cfg(cfg)
        runner.train()
        weights.append(runner.model.state_dict())
    for key, value in weights[0].items():
        assert torch.equal(value, weights[1][key]), key
    pictures = sorted((tmp_path / 'with').rglob('reconstruction_*.png'))
    assert [p.name for p in pictures] == [
        'reconstruction_2.png',
        'reconstruction_4.png',
    ]
    assert is_picture(pictures[0])
    assert not list((tmp_path / 'without').rglob('reconstruction_*'))


def test_bad_hooks(photos, tmp_path):
    with pytest.raises(ValueError, match='ReconstructionHook.interval=0'):
        ReconstructionHook(interval=0)
    runner = type('Runner', (), dict(model=SAIMViT(TINY, 32, 8)))
    with pytest.raises(ValueError, match='left out of what is no pre-train'):
        ReconstructionHook().before_train(runner)
