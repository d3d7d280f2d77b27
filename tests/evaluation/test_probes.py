"""Probes of cached features: against others' and literal ones, and whole."""

import json
import math
import random
import shutil
import sys

import numpy as np
import pytest
import torch
from helpers import FOLDER, TINY, call
from mmengine.config import Config
from mmpretrain.registry import MODELS
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch._subclasses.fake_tensor import FakeTensorMode

from saim_mm.evaluation.features import (
    Features,
    build_encoder,
    extract,
    image_folder,
    normalize,
)
from saim_mm.evaluation.knn import vote
from saim_mm.evaluation.probes import (
    accuracy,
    evaluate,
    evaluate_folders,
    fit_linear,
    fit_readout,
    size_and_heads,
)
from saim_mm.evaluation.rank import rank_me
from saim_mm.evaluation.readouts import EfficientProbing
from saim_mm.models.vit_outputs import layer_output


@pytest.fixture(scope='module')
def digits():
    data = load_digits()
    features = torch.tensor(data.data, dtype=torch.float32)
    return features[:, features.std(dim=0) > 0], torch.tensor(data.target)


@pytest.mark.parametrize('weight_decay', [1e-2, 1e-4])
def test_linear_is_scikit_learns(digits, weight_decay):
    features, labels = digits
    linear = fit_linear(features, labels, 10, weight_decay, max_iter=1000)
    scaled = (features - features.mean(dim=0)) / features.std(dim=0)
    theirs = LogisticRegression(
        C=1 / (len(labels) * weight_decay), max_iter=10_000, tol=1e-8
    ).fit(scaled.double(), labels)
    with torch.no_grad():
        shares = linear(features).softmax(dim=1)
    expected = torch.tensor(theirs.predict_proba(scaled.double()))
    torch.testing.assert_close(shares.double(), expected, rtol=0, atol=2e-3)
    # By default it comes as near as makes no difference.
    linear = fit_linear(features, labels, 10, weight_decay)
    assert accuracy(linear, features, labels) == pytest.approx(
        100 * theirs.score(scaled.double(), labels), abs=0.2
    )


def literal_vote(query, others, labels, classes, k, temperature):
    def cosine(a, b):
        return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))

    nearest = sorted(
        ((cosine(query, x), label) for x, label in zip(others, labels)),
        reverse=True,
    )[:k]
    votes = [0.0] * classes
    for similarity, label in nearest:
        votes[label] += math.exp(similarity / temperature)
    return [v / sum(votes) for v in votes]


@pytest.mark.parametrize(
    'k, temperature', [(1, 0.07), (5, 0.07), (20, 1.0), (20, 0.005)]
)
def test_neighbours(digits, k, temperature):
    features, labels = digits[0][:120], digits[1][:120]
    queries = digits[0][200:230]
    found = vote(queries, features, labels, 10, k, temperature, chunk=7)
    numbers = features.double().numpy()
    for row, query in zip(found, queries.double().numpy()):
        expected = literal_vote(
            query, numbers, labels.tolist(), 10, k, temperature
        )
        assert row.tolist() == pytest.approx(expected, abs=1e-4)
    # Each among the others.
    found = vote(
        *(features, features, labels, 10, k, temperature),
        leave_one_out=True,
        chunk=7,
    )
    for i in (0, 6, 7, 119):
        rest = [j for j in range(120) if j != i]
        expected = literal_vote(
            *(numbers[i], numbers[rest], labels[rest].tolist()),
            *(10, k, temperature),
        )
        assert found[i].tolist() == pytest.approx(expected, abs=1e-4)


def test_too_few_neighbours(digits):
    features, labels = digits[0][:9], digits[1][:9]
    with pytest.raises(ValueError, match='k=10: must be 1 to 9'):
        vote(features, features, labels, 10, 10)
    with pytest.raises(ValueError, match='k=9: must be 1 to 8'):
        vote(features, features, labels, 10, 9, leave_one_out=True)
    with pytest.raises(ValueError, match='k=0'):
        vote(features, features, labels, 10, 0)
    for temperature in (0, -0.07, math.nan, math.inf):
        with pytest.raises(ValueError, match='temperature=.*positive'):
            vote(features, features, labels, 10, 3, temperature)


def test_neighbours_on_a_gpu_with_labels_on_the_host():
    """As ProbeHook has them; of a GPU that is not there."""
    with FakeTensorMode():
        features = torch.randn(10, 4, device='cuda')
        labels = torch.arange(10) % 2
        votes = vote(features, features, labels, 2, 3, leave_one_out=True)
        assert votes.device.type == 'cuda' and votes.shape == (10, 2)


def test_rank_me(digits):
    features = digits[0]
    values = np.linalg.svd(features.double().numpy(), compute_uv=False)
    shares = values / values.sum()
    shares = shares[shares > 0]
    expected = math.exp(-(shares * np.log(shares)).sum())
    assert rank_me(features) == pytest.approx(expected, rel=1e-10)
    assert rank_me(torch.eye(7)) == pytest.approx(7)
    assert rank_me(torch.ones(9, 5)) == pytest.approx(1)


def made_up(number, seed):
    """Of nine patches one has the class, another the opposite: no mean."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (number,), generator=generator)
    tokens = torch.randn(number, 10, 16, generator=generator)
    where = torch.rand(number, 9, generator=generator).argsort(dim=1) + 1
    rows = torch.arange(number)
    for place, sign in ((where[:, 0], 1), (where[:, 1], -1)):
        tokens[rows, place, labels] += 4 * sign
        tokens[rows, place, 15] += 5 * sign
    vectors = dict(cls_token=tokens[:, 0], patch_mean=tokens[:, 1:].mean(1))
    return Features(vectors, tokens.half(), labels, 1)


def states():
    return (
        torch.get_rng_state().tolist(),
        random.getstate(),
        np.random.get_state()[1].tolist(),
    )


def test_attending_finds_what_the_mean_loses():
    train, val = made_up(1000, 0), made_up(500, 1)
    before = states()
    results = evaluate(train, val, num_heads=2)
    assert states() == before
    assert set(results) == {
        *(
            f'{p}/{r}'
            for p in ('linear', 'knn', 'rank_me')
            for r in train.vectors
        ),
        *('attentive', 'efficient'),
    }
    for name in train.vectors:
        assert 15 < results[f'linear/{name}'] < 40  # a quarter by chance
        assert 15 < results[f'knn/{name}'] < 40
        assert 12 < results[f'rank_me/{name}'] <= 16
    assert results['attentive'] > 80
    assert results['efficient'] > 80
    torch.manual_seed(5)
    assert evaluate(train, val, num_heads=2) == results
    other = evaluate(train, val, 2, seed=1, probes=['efficient'])
    assert set(other) == {'efficient'}
    assert other != {'efficient': results['efficient']}


@pytest.mark.parametrize('epochs', [1, 10])
def test_fewer_images_than_a_batch(epochs):
    """A step an epoch; one at all."""
    tokens = torch.randn(6, 5, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1] * 3)
    readout = EfficientProbing(8, 2, num_extra_tokens=0)
    readout.init_weights()
    before = readout.query.clone()
    probe = fit_readout(readout, tokens, labels, 2, epochs)
    assert not torch.equal(readout.query, before)
    if epochs > 1:
        assert accuracy(probe, tokens, labels) == 100


def test_one_image_more_than_whole_batches():
    """BatchNorm cannot train on it alone."""
    tokens = torch.randn(9, 5, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 0, 1, 0, 1, 0, 1, 0])
    readout = EfficientProbing(8, 2, num_extra_tokens=0)
    probe = fit_readout(readout, tokens, labels, 2, batch_size=4)
    assert accuracy(probe, tokens, labels) > 80
    with pytest.raises(
        ValueError, match='epochs=0: must be a positive integer'
    ):
        fit_readout(readout, tokens, labels, 2, epochs=0)


def test_what_cannot_be_evaluated():
    train, val = made_up(20, 0), made_up(20, 1)
    with pytest.raises(ValueError, match="probes='mean': must be one of"):
        evaluate(train, val, probes=['mean'])
    with pytest.raises(ValueError, match='train.tokens=None: must be kept'):
        evaluate(
            Features(train.vectors, None, train.labels, 1),
            val,
            probes=['efficient'],
        )
    with pytest.raises(ValueError, match='val.labels=None: must be given'):
        evaluate(train, Features(val.vectors, None, None, 1))
    broken = Features(dict(train.vectors), None, train.labels, 1)
    broken.vectors['patch_mean'] = train.vectors['patch_mean'].clone()
    broken.vectors['patch_mean'][3, 0] = math.nan
    for arguments in ((broken, val), (val, broken)):
        with pytest.raises(ValueError, match='1 of 20 are not; if the wei'):
            evaluate(*arguments, probes=['knn'])
    one = Features(train.vectors, None, torch.zeros(20, dtype=torch.long), 1)
    with pytest.raises(ValueError, match='train.labels=.*two classes'):
        evaluate(one, val)
    val.labels[3] = 7
    with pytest.raises(ValueError, match='val.labels=7: must be of the 4'):
        evaluate(train, val)


@pytest.fixture(scope='module')
def classes(photos, tmp_path_factory):
    """Tiles of two photographs: two classes."""
    root = tmp_path_factory.mktemp('classes')
    for number, path in enumerate(sorted(photos.iterdir())):
        part = 'val' if number % 4 == 0 else 'train'
        label = 'temple' if path.name.startswith('0') else 'flower'
        target = root / part / label
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target / path.name)
    return root


@pytest.fixture
def cfg(tmp_path):
    cfg = Config.fromfile(FOLDER)
    cfg.model.backbone.update(arch=TINY, img_size=32, patch_size=8)
    cfg.dump(tmp_path / 'config.py')
    return cfg


def test_extract(classes, cfg):
    model = build_encoder(cfg, seed=3)
    model.backbone.layers[1].eval()  # as if it were frozen
    modes = [module.training for module in model.modules()]
    folder = image_folder(classes / 'train', (32, 32), 'train')
    before = states()
    features = extract(model, folder, batch_size=7, dtype=torch.float32)
    assert states() == before
    assert [module.training for module in model.modules()] == modes
    assert features.tokens.shape == (len(folder), 17, 24)
    assert features.tokens.grad_fn is None
    assert features.labels.tolist() == list(folder.get_gt_labels())
    tokens = features.tokens
    for name, expected in dict(
        cls_token=tokens[:, 0], patch_mean=tokens[:, 1:].mean(dim=1)
    ).items():
        torch.testing.assert_close(features.vectors[name], expected)
    # They are what the pre-trained backbone makes of the pictures downstream.
    model.eval()
    images = torch.stack([folder[i]['inputs'] for i in (0, 9)])
    expected = layer_output(
        model.backbone, normalize(model.data_preprocessor, images), -1, 'raw'
    )
    torch.testing.assert_close(tokens[[0, 9]], expected.detach())
    half = extract(model, folder, num_blocks=2)
    assert half.tokens.dtype == torch.float16
    third = layer_output(
        model.backbone, normalize(model.data_preprocessor, images), -2, 'raw'
    )
    torch.testing.assert_close(
        half.tokens[[0, 9]].float(),
        ((expected + third) / 2).detach(),
        rtol=1e-2,
        atol=1e-2,
    )
    with torch.no_grad():
        model.backbone.ln1.weight.fill_(1e6)
    with pytest.raises(ValueError, match='dtype=torch.float16: must be anoth'):
        extract(model, folder)


def test_a_picture_of_the_models_size_stays_as_it_is(tmp_path, classes):
    folder = tmp_path / 'pictures'
    for label in 'ab':
        (folder / label).mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    Image.fromarray(pixels).save(folder / 'a/a.png')
    source = sorted((classes / 'train').glob('*/*'))[0]  # 80 x 80
    shutil.copy(source, folder / 'b/b.jpg')
    small, large = image_folder(folder, (32, 32), 'train')
    assert (small['inputs'].flip(0).permute(1, 2, 0).numpy() == pixels).all()
    assert large['inputs'].shape == (3, 32, 32)


@pytest.mark.parametrize(
    'backbone, expected',
    [
        (
            dict(
                type='TIMMBackbone',
                model_name='vit_tiny_patch16_224',
                img_size=32,
            ),
            ((32, 32), 3),
        ),
        (dict(type='SwinTransformer', arch='tiny'), ((224, 224), 24)),
        (dict(type='ResNet', depth=18), ((224, 224), 1)),
        (dict(type='SAIMViT', arch=TINY, img_size=(32, 64)), ((32, 64), 3)),
    ],
)
def test_size_and_heads_of_any_backbone(backbone, expected):
    assert size_and_heads(MODELS.build(backbone)) == expected


def test_folders(tmp_path, classes):
    with pytest.raises(
        FileNotFoundError, match="train='.*no': no such folder"
    ):
        image_folder(tmp_path / 'no', (32, 32), 'train')
    with pytest.raises(
        ValueError, match="val='.*must hold images.*sub-folder"
    ):
        image_folder(tmp_path, (32, 32), 'val')
    shutil.copytree(classes / 'train/flower', tmp_path / 'one/flower')
    with pytest.raises(ValueError, match=r"two classes.*\['flower'\]"):
        image_folder(tmp_path / 'one', (32, 32), 'val')
    some = image_folder(classes / 'train', (32, 32), 'train', max_images=10)
    assert len(some) == 10 and len(set(some.get_gt_labels())) == 2
    without = image_folder(classes, (32, 32), 'x', labels=False)
    assert len(without) == len(list(classes.glob('*/*/*')))


def test_command(classes, cfg, checkpoint, tmp_path):
    """Pre-trained weights and random ones, by the tool that users have."""
    command = (sys.executable, 'tools/probe.py', tmp_path / 'config.py')
    folders = ('--train', classes / 'train', '--val', classes / 'val')
    out = tmp_path / 'out/results.json'
    code, output = call(
        *(*command, checkpoint, *folders, '--out', out, '--epochs', '3')
    )
    assert code == 0, output[-3000:]
    results = json.loads(out.read_text())
    assert json.loads(output[output.index('{') :]) == results
    assert results['checkpoint'] == str(checkpoint)
    for name in ('linear/cls_token', 'linear/patch_mean', 'efficient'):
        assert 60 < results[name] <= 100
    code, output = call(*command, *folders, '--probes', 'rank_me', 'linear')
    assert code == 0, output[-3000:]
    random = json.loads(output[output.index('{') :])
    assert random['checkpoint'] is None and 'efficient' not in random
    assert random['rank_me/cls_token'] != results['rank_me/cls_token']


def test_what_the_command_refuses(classes, cfg, checkpoint):
    folders = classes / 'train', classes / 'val'
    with pytest.raises(FileNotFoundError, match='no.pth.*no such file'):
        evaluate_folders(cfg, 'no.pth', *folders)
    with pytest.raises(ValueError, match=r"val=.*same classes.*\['flower'"):
        evaluate_folders(cfg, checkpoint, folders[0], classes)
    cfg.model.backbone.patch_size = 4
    with pytest.raises(ValueError, match='does not fit the backbone'):
        evaluate_folders(cfg, checkpoint, *folders)
    cfg.model.backbone.update(type='VisionTransformer', out_type='raw')
    cfg.model = dict(type='ImageClassifier', backbone=cfg.model.backbone)
    cfg.data_preprocessor = None
    with pytest.raises(
        ValueError,
        match='(?s)checkpoint=.*size mismatch for patch_embed.projection',
    ):
        evaluate_folders(cfg, checkpoint, *folders)
    cfg.model.backbone.patch_size = 8
    cfg.model.backbone.arch.num_layers = 5
    with pytest.raises(ValueError, match=r"lacks \['layers.4.ln1.weight'"):
        evaluate_folders(cfg, checkpoint, *folders)


def test_weights_without_a_place_are_refused(classes, cfg, tmp_path):
    """As of every entrance: the features would be others, without a word."""
    # Of mmpretrain's ViT, which does not look at them itself as SAIMViT does.
    backbone = dict(cfg.model.backbone, type='VisionTransformer')
    cfg.model = dict(type='ImageClassifier', backbone=backbone)
    cfg.data_preprocessor = None
    model = build_encoder(cfg)
    weights = {
        f'backbone.{k}': v for k, v in model.backbone.state_dict().items()
    }
    weights['backbone.layers.0.attn.gamma1.weight'] = torch.full((24,), 0.1)
    torch.save(dict(state_dict=weights), tmp_path / 'scaled.pth')
    with pytest.raises(ValueError, match='no place .*LayerScale'):
        build_encoder(cfg, tmp_path / 'scaled.pth')
