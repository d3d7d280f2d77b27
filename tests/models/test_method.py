"""The method: against the literal equations, the authors' numbers, itself."""

import re

import pytest
import reference
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS

from saim_mm import PredictionOrder
from saim_mm.models.order import literal_masks
from saim_mm.models.orders import StochasticOrder, build_order

ARCH = dict(embed_dims=32, num_layers=4, num_heads=4, feedforward_channels=64)


def build(
    img_size=(16, 24),
    order='stochastic',
    segment_size=1,
    prefix=None,
    neck=None,
    head=None,
    target=None,
    arch=ARCH,
    patch_size=4,
):
    """A float64 model, every parameter away from its initial value."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    try:
        return initialise(
            MODELS.build(
                dict(
                    type='SAIM',
                    order=order,
                    segment_size=segment_size,
                    prefix=prefix,
                    backbone=dict(
                        type='SAIMViT',
                        arch=arch,
                        img_size=img_size,
                        patch_size=patch_size,
                    ),
                    neck=dict(type='SAIMDecoder', **(neck or {})),
                    head=dict(type='SAIMHead', **(head or {})),
                    target_generator=dict(
                        type='SmoothedPatchTarget', **(target or {})
                    ),
                )
            )
        )
    finally:
        torch.set_default_dtype(torch.float32)


def initialise(model):
    model.init_weights()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name != 'backbone.pos_embed':
                parameter += 0.1 * torch.randn_like(parameter)
    return model


def images_and_noise(img_size=(16, 24), patches=24, batch=3):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(batch, 3, *img_size, generator=generator).double()
    return images, torch.rand(batch, patches, generator=generator).double()


def run(model, images, order):
    """Predictions in the order, loss, gradients by name."""
    model.zero_grad()
    pred = model.predict_patches(images, order)
    loss = model.loss(images, order=order)['loss']
    loss.backward()
    grads = {
        name: p.grad for name, p in model.named_parameters() if p.requires_grad
    }
    return pred, loss, grads


L1 = dict(loss=dict(type='PixelReconstructionLoss', criterion='L1'))
SWITCHES = {
    'default': {},
    'raster': dict(order='raster'),
    'depth 2': dict(neck=dict(depth=2)),
    'depth 1': dict(neck=dict(depth=1)),
    'depth 0': dict(order='raster', neck=dict(depth=0)),
    'shared': dict(neck=dict(share_weights=True)),
    'shared, depth 2': dict(neck=dict(share_weights=True, depth=2)),
    'half width': dict(neck=dict(widen_factor=0.5)),
    'half width, depth 2': dict(neck=dict(widen_factor=0.5, depth=2)),
    'no blur': dict(target=dict(kernel_size=None)),
    'blur 3': dict(target=dict(kernel_size=3)),
    'blur 9, sigma 1.5': dict(target=dict(kernel_size=9, sigma=1.5)),
    'MSE': dict(target=dict(normalize=False)),
    'L1': dict(target=dict(normalize=False), head=L1),
    'linear head': dict(head=dict(predictor='linear')),
    'transformer head': dict(head=dict(predictor='transformer')),
    'segments': dict(segment_size=2),
    'segments, raster': dict(segment_size=2, order='raster'),
    'square': dict(img_size=16),
    'one row': dict(img_size=(4, 40)),
    'prefix': dict(prefix=0.5),
    'prefix, of all but one': dict(prefix=0.96),
    'prefix, segments': dict(prefix=0.5, segment_size=2),
    'prefix, no decoder': dict(prefix=0.4, order='raster', neck=dict(depth=0)),
    'random prefix, shared': dict(
        prefix='random', neck=dict(share_weights=True)
    ),
    'random prefix, L1': dict(prefix='random', head=L1),
    'random prefix, segments': dict(prefix='random', segment_size=2),
    'random prefix, no decoder': dict(
        prefix='random', order='snake', neck=dict(depth=0)
    ),
    **{
        f'{order}, segments of {size}': dict(order=order, segment_size=size)
        for order in ('snake', 'spiral', 'center_out', 'checkerboard')
        for size in (1, 2)
    },
    **{
        f'semantic: {kind}, {similarity}, segments of {size}': dict(
            order=dict(type='SemanticOrder', kind=kind, similarity=similarity),
            segment_size=size,
        )
        for kind, similarity, size in (
            ('attention_center', 'cls', 1),
            ('attention_center', 'gap', 2),
            ('attention', 'self', 1),
        )
    },
}
OPTIONS = [name for name in SWITCHES if re.search('prefix|segments of', name)]


@pytest.mark.parametrize('switch', SWITCHES)
def test_equals_literal_equations(switch):
    config = SWITCHES[switch]
    model = build(**config)
    rows, columns = model.backbone.patch_resolution
    images, noise = images_and_noise(model.backbone.img_size, rows * columns)
    stochastic = isinstance(model.order, StochasticOrder)
    if not stochastic or model.segment_size > 1:
        order = model.sample_order(images)
        # The patches of a segment have the same noise: the paper's masks then
        # let each see its segment as content, and none of it as query.
        step = order.indices.argsort(dim=1) // model.segment_size**2
        noise = step.double()
    else:
        order = PredictionOrder.from_noise(noise)
    order = model.sample_prefix(order)
    pred, loss, grads = run(model, images, order)

    params = {
        name: p.detach().clone().requires_grad_(p.requires_grad)
        for name, p in model.named_parameters()
    }
    neck, head = config.get('neck', {}), config.get('head', {})
    expected, expected_loss, _ = reference.pretrain(
        params,
        images,
        noise,
        patch_size=4,
        num_layers=4,
        num_heads=4,
        **neck,
        predictor=head.get('predictor', 'mlp'),
        criterion=head.get('loss', dict(criterion='L2'))['criterion'],
        indices=order.indices,
        prefix=torch.as_tensor(order.prefix).expand(len(images)).tolist(),
        **config.get('target', {}),
    )
    expected_loss.backward()
    expected = order.select_predicted(order.sort(expected))
    counted = order.counted()
    if counted is not None:  # the others know what they predict
        pred, expected = pred[counted], expected[counted]

    tolerance = dict(rtol=0, atol=1e-10)
    torch.testing.assert_close(pred, expected, **tolerance)
    torch.testing.assert_close(loss, expected_loss, **tolerance)
    assert grads and all(g is not None for g in grads.values())
    for name, grad in grads.items():
        torch.testing.assert_close(
            grad,
            params[name].grad,
            **tolerance,
            msg=lambda m, name=name: f'{name}: {m}',
        )


@pytest.mark.parametrize(
    'switch',
    [
        'default',
        'raster',
        'depth 2',
        'depth 0',
        'shared',
        'transformer head',
        'segments',
        'half width',
    ],
)
def test_no_leak(switch):
    """Changing patch t changes no prediction at or before t, only later.

    With segments: none in its segment or before.
    """
    model = build(**SWITCHES[switch])
    images = images_and_noise(batch=1)[0]
    order = model.sample_order(images)
    before = model.predict_patches(images, order)[0]
    length = before.shape[0]
    for t in range(length):
        row, column = divmod(order.indices[0, t].item(), 6)
        changed = images.clone()
        changed[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 1
        after = model.predict_patches(changed, order)[0]
        same = (after == before).all(dim=-1)
        end = (t // order.segment_length + 1) * order.segment_length
        assert same[:end].all(), f'patch {t} leaks'
        assert not same[end:].any(), f'patch {t} is not seen after it'


@pytest.mark.parametrize('switch', OPTIONS)
@torch.no_grad()
def test_no_leak_with_options(switch):
    """The same for every order and prefix, of the patches predicted.

    A patch of the prefix is seen by all predictions, which are behind it.
    """
    model = build(**SWITCHES[switch])
    order = model.sample_prefix(model.sample_order(images_and_noise()[0]))
    for image in range(3 if model.prefix == 'random' else 1):
        prefix = torch.as_tensor(order.prefix).expand(3)[image].item()
        copies = PredictionOrder(
            order.indices[image].expand(24, -1),
            order.segment_length,
            prefix=prefix,
        )
        images = images_and_noise()[0][image].expand(24, -1, -1, -1).clone()
        before = model.predict_patches(images, copies)
        steps = torch.arange(24 - before.shape[1], 24)
        assert steps[0] == prefix and len(steps) > 0
        for t, patch in enumerate(order.indices[image].tolist()):
            row, column = (4 * n for n in divmod(patch, 6))
            images[t, :, row : row + 4, column : column + 4] += 1
        after = model.predict_patches(images, copies)
        changed = (after - before).abs().amax(dim=-1) > 1e-12  # (t, step)
        size = order.segment_length
        end = (torch.arange(24) // size + 1) * size
        assert torch.equal(changed, steps >= end.unsqueeze(1))


def test_segments_are_squares_in_random_order():
    order = build_order('stochastic').sample(500, (4, 6), 'cpu', 2)
    assert (order.indices.sort(dim=1)[0] == torch.arange(24)).all()
    segments = order.indices.reshape(500, 6, 4)
    corner = segments[..., :1]
    assert (segments - corner == torch.tensor([0, 1, 6, 7])).all()
    first = segments[:, 0, 0].unique(return_counts=True)
    assert first[0].tolist() == [0, 2, 4, 12, 14, 16]
    assert (first[1] - 500 / 6).abs().max() < 40  # 4.8 deviations
    # Those of one patch are SAIM's orders, number by number.
    torch.manual_seed(0)
    ones = build_order('stochastic').sample(3, (4, 6), 'cpu', 1)
    torch.manual_seed(0)
    noise = torch.rand(3, 24)
    assert torch.equal(ones.indices, noise.argsort(dim=1))
    with pytest.raises(
        ValueError, match='segment_size=4: must be a side of squ'
    ):
        build(segment_size=4)
    with pytest.raises(ValueError, match='neck.depth=0: must be more than 0'):
        build(order='raster', neck=dict(depth=0), segment_size=2)


@pytest.mark.parametrize('segment', [1, 2])
def test_masks_say_what_plain_causal_does(segment):
    """In the order, both masks are (block-)causal, in raster order Eq. 3."""
    order = build_order('stochastic').sample(1, (4, 6), 'cpu', segment)
    content, query = (
        mask[0][order.indices[0]][:, order.indices[0]]
        for mask in literal_masks(order)
    )
    number = segment**2
    if segment == 1:
        assert order.content_mask() is None and order.query_mask() is None
        assert torch.equal(content, torch.ones(24, 24).tril().bool())
        assert torch.equal(query, torch.ones(24, 24).tril(-1).bool())
        return
    ours = order.content_mask()
    assert ours[:, 0].all() and not ours[0, 1:].any()  # the class token
    assert torch.equal(ours[1:, 1:], content[:-number, :-number])
    ours = order.query_mask()
    assert ours[:, 0].all()
    assert torch.equal(ours[:, 1:], query[:, :-number])


@pytest.mark.parametrize(
    'size', [64, pytest.param(224, marks=pytest.mark.slow)]
)
def test_no_leak_in_the_papers_model(size):
    """The same for the ViT-B/16 of the paper's config, every t."""
    cfg = Config.fromfile(
        'configs/pretrain/saim_vit-base-p16_32xb64-amp-coslr-300e_in1k.py'
    )
    cfg.model.backbone.img_size = size
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).eval()
    model.init_weights()
    images = torch.randn(1, 3, size, size)
    order = model.sample_order(images)
    with torch.no_grad():
        before = model.predict_patches(images, order)[0]
        for t, patch in enumerate(order.indices[0].tolist()):
            row, column = (16 * x for x in divmod(patch, size // 16))
            changed = images.clone()
            changed[:, :, row : row + 16, column : column + 16] += 1
            after = model.predict_patches(changed, order)[0]
            difference = (after - before).abs().amax(dim=-1)
            assert (difference[: t + 1] < 1e-6).all(), f'patch {t} leaks'
            assert (difference[t + 1 :] > 1e-6).all(), f'patch {t} is unseen'
