"""Numbers that the authors' released code produced, if they are at hand."""

import pytest
import torch
from helpers import ROOT
from mmpretrain.registry import MODELS

from saim_mm import PredictionOrder
from saim_mm.checkpoint.formats import from_format, to_format

GOLDEN = ROOT.parent / 'shared/golden/saim_golden.pt'
pytestmark = pytest.mark.skipif(
    not GOLDEN.exists(), reason=f'{GOLDEN} is not there'
)


@pytest.fixture(scope='module')
def golden():
    return torch.load(GOLDEN, weights_only=False)


def build(args):
    width, depth = args['embed_dim'], args['depth']
    return MODELS.build(
        dict(
            type='SAIM',
            backbone=dict(
                type='SAIMViT',
                arch=dict(
                    embed_dims=width,
                    num_layers=depth,
                    num_heads=args['num_heads'],
                    feedforward_channels=4 * width,
                ),
                img_size=args['img_size'],
                patch_size=args['patch_size'],
            ),
            neck=dict(
                type='SAIMDecoder',
                depth=args['query_depth'],
                share_weights=args.get('share_weight', False),
            ),
            head=dict(
                type='SAIMHead',
                predictor=args.get('prediction_head_type', 'MLP').lower(),
                loss=dict(
                    type='PixelReconstructionLoss',
                    criterion=args.get('loss_type', 'L2'),
                ),
            ),
            target_generator=dict(
                type='SmoothedPatchTarget',
                kernel_size=args.get('gaussian_kernel_size'),
                sigma=args.get('gaussian_sigma', 1.0),
                normalize=args.get('norm_pix_loss', True),
            ),
        )
    )


@pytest.mark.parametrize(
    'case',
    ['default', 'share_weight', 'query_depth2', 'plain_l1_linear', 'blur3'],
)
def test_equals_the_authors_numbers(golden, case):
    golden = golden[case]
    shared = golden['model'].get('share_weight', False)
    model = build(golden['model'])
    # The embedding built here is the authors', before theirs is loaded.
    torch.testing.assert_close(
        model.backbone.pos_embed.data,
        golden['state_dict']['pos_embed'],
        rtol=0,
        atol=1e-7,
    )
    weights = from_format(golden['state_dict'], 'authors')
    model.load_state_dict(weights, strict=True)

    images, order = (
        golden['images'],
        PredictionOrder.from_noise(golden['noise']),
    )
    hidden, _ = model.backbone(images, order)
    pred = order.unsort(model.predict_patches(images, order))
    loss = model.loss(images, order=order)['loss']
    loss.backward()

    close = dict(rtol=0, atol=1e-5)
    torch.testing.assert_close(pred, golden['pred'], **close)
    torch.testing.assert_close(loss, golden['loss'], **close)
    # Ours has no token for the last patch of the order.
    for ours, theirs in zip(hidden, golden['encoder_hidden']):
        theirs = torch.cat(
            [theirs[:, :1], order.sort(theirs[:, 1:])[:, :-1]], dim=1
        )
        torch.testing.assert_close(ours, theirs, **close)
    assert shared or len(golden['encoder_hidden']) == len(hidden)

    grads = from_format(golden['grad'], 'authors')
    ours = dict(model.named_parameters())
    assert set(grads) == {n for n, p in ours.items() if p.requires_grad}
    for name, grad in grads.items():
        scale = grad.abs().max()
        torch.testing.assert_close(
            ours[name].grad, grad, rtol=0, atol=1e-4 * scale.item()
        )


def test_target_equals_the_authors(golden):
    golden = golden['default']
    model = build(golden['model'])
    model.target_generator.normalize = False
    torch.testing.assert_close(
        model.target_generator(golden['images']),
        golden['target'],
        rtol=0,
        atol=1e-6,
    )


def test_weights_go_back_to_the_authors(golden):
    for case in ('default', 'query_depth2', 'plain_l1_linear', 'blur3'):
        theirs = golden[case]['state_dict']
        back = to_format(from_format(theirs, 'authors'), 'authors')
        assert set(theirs) - set(back) <= {'gaussian_blur.weight'}
        assert set(back) <= set(theirs)
        for name, value in back.items():
            assert torch.equal(value, theirs[name]), name


@pytest.mark.parametrize('pool', ['cls_token', 'global_pool'])
def test_their_fine_tuned_classifier(golden, pool):
    golden = golden[f'finetune_{pool}']
    weights = from_format(golden['state_dict'], 'authors')
    model = MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=dict(
                type='SAIMViT',
                arch=dict(
                    embed_dims=64,
                    num_layers=4,
                    num_heads=4,
                    feedforward_channels=256,
                ),
                img_size=32,
                patch_size=4,
                out_type='cls_token' if pool == 'cls_token' else 'avg_featmap',
                final_norm=pool == 'cls_token',
            ),
            head=dict(type='LinearClsHead', num_classes=5, in_channels=64),
        )
    )
    model.load_state_dict(weights, strict=True)
    with torch.no_grad():
        (features,) = model.eval().extract_feat(golden['images'])
        logits = model(golden['images'])
    close = dict(rtol=0, atol=1e-5)
    torch.testing.assert_close(features, golden['features'], **close)
    torch.testing.assert_close(logits, golden['logits'], **close)
    back = to_format(weights, 'authors')
    assert set(back) == set(golden['state_dict'])
    for name, value in golden['state_dict'].items():
        assert torch.equal(back[name], value), name
