"""Numbers that the code of SemAIM's authors produced, if they are at hand."""

import pytest
import torch
from helpers import ROOT
from mmengine.registry import MODELS

from saim_mm import Order, PredictionOrder
from saim_mm.checkpoint.formats import from_format, to_format
from saim_mm.models.teachers import View

GOLDEN = ROOT.parent / 'shared/golden/semaim_golden.pt'
pytestmark = pytest.mark.skipif(
    not GOLDEN.exists(), reason=f'{GOLDEN} is not there'
)
CASES = [
    'attention_center',
    'attention',
    'center2out',
    'stochastic',
    'raster',
    'zigzag',
    'attention_center_gap',
    'attention_center_self',
    'feature_target',
    'teacher_target',
]
#: Their names of orders, and ours.
ORDERS = dict(
    center2out='center_out', stochastic='stochastic', raster='snake',
    zigzag='raster',
)  # fmt: skip
CLOSE = dict(rtol=0, atol=1e-5)


@pytest.fixture(scope='module')
def golden():
    return torch.load(GOLDEN, weights_only=False)


class GivenTeacher(torch.nn.Module):
    """In place of CLIP: of another width than the model."""

    def __init__(self, student, tokens):
        super().__init__()
        self.tokens, self.embed_dims = tokens, tokens.shape[-1]

    def forward(self, images):
        return View(self.tokens[:, 1:], self.tokens[:, 0])


class TiedOrder(PredictionOrder):
    """Theirs, where two patches of the same value see each other.

    (A rounding error of theirs in three cases, in one pair each.)
    """

    def __init__(self, indices, values):
        super().__init__(indices)
        self.steps = values.gather(1, indices)

    def content_mask(self):
        token = self.steps[:, :-1]
        mask = token.unsqueeze(1) <= token.unsqueeze(2)
        mask = torch.nn.functional.pad(mask, (0, 0, 1, 0), value=False)
        return torch.nn.functional.pad(mask, (1, 0), value=True).unsqueeze(1)

    def query_mask(self):
        mask = self.steps[:, None, :-1] < self.steps[:, :, None]
        return torch.nn.functional.pad(mask, (1, 0), value=True).unsqueeze(1)


def build(case, tokens):
    kind = case['permutation_type']
    order = ORDERS.get(kind) or dict(
        type='SemanticOrder',
        kind=kind,
        similarity=case.get('attention_type', 'cls'),
    )
    target, teacher = dict(type='SmoothedPatchTarget'), None
    if 'predict_feature' in case:
        target = dict(type='FeatureTarget')
        teacher = dict(type='MovingAverageTeacher')
        if case['predict_feature'] == 'clip':
            teacher = dict(type=GivenTeacher, tokens=tokens)
    width = case['embed_dim']
    return MODELS.build(
        dict(
            type='SAIM',
            backbone=dict(
                type='SAIMViT',
                arch=dict(
                    embed_dims=width,
                    num_layers=case['depth'],
                    num_heads=case['num_heads'],
                    feedforward_channels=4 * width,
                ),
                img_size=case['img_size'],
                patch_size=case['patch_size'],
            ),
            neck=dict(type='SAIMDecoder'),
            head=dict(type='SAIMHead'),
            target_generator=target,
            order=order,
            teacher=teacher,
        )
    )


@pytest.mark.parametrize('name', CASES)
def test_equals_the_authors_numbers(golden, name):
    images, case = golden['images'], golden['cases'][name]
    model = build(case['model'], case['tokens'])
    weights = from_format(case['state_dict'], 'semaim')
    # The moving average starts as the encoder, also of such a checkpoint.
    assert not any(n.startswith('teacher.') for n in weights)
    model.load_state_dict(weights, strict=True)
    back = to_format(model.state_dict(), 'semaim')
    assert set(case['state_dict']) - set(back) <= {'gaussian_blur.weight'}
    for key, value in back.items():
        assert torch.equal(value, case['state_dict'][key]), key

    # What the encoder sees.
    view = model.look(images)
    tokens = case['tokens'] if name == 'teacher_target' else None
    tokens = case['encoder_tokens'] if tokens is None else tokens
    torch.testing.assert_close(view.patches, tokens[:, 1:], **CLOSE)
    torch.testing.assert_close(view.cls_token, tokens[:, 0], **CLOSE)
    if name != 'teacher_target':
        kind = case['model'].get('attention_type', 'cls')
        torch.testing.assert_close(
            view.attention(kind), case['attention'], **CLOSE
        )
        if name == 'feature_target':
            torch.testing.assert_close(
                model.target_generator(images, model, view),
                case['tokens'][:, 1:],
                **CLOSE,
            )

    # The order, from the same attention and noise.
    seen = case['attention'] if model.order.looks else None
    noise = None
    if model.order.random:
        torch.manual_seed(77)
        noise = torch.rand(2, 196)
    values = model.order((14, 14), noise, seen)
    theirs = case['permutation']
    if name not in ('attention', 'raster', 'zigzag'):
        # MKL rounds square roots otherwise on AMD's CPUs than on Intel's.
        torch.testing.assert_close(values, theirs, rtol=2**-23, atol=0)
    torch.manual_seed(77)
    order = model.order.sample(2, (14, 14), 'cpu', seen=seen)
    steps = theirs.gather(1, order.indices).diff(dim=1)
    assert (steps >= 0).all() and (steps == 0).sum() <= 1
    if (steps == 0).any():
        assert name in (
            'attention', 'attention_center_gap', 'attention_center_self'
        )  # fmt: skip
        order = TiedOrder(order.indices, theirs)

    # Predictions, loss, gradients.
    pred = order.unsort(model.predict_patches(images, order))
    loss = model.loss(images, order=order)['loss']
    loss.backward()
    torch.testing.assert_close(pred, case['pred'], **CLOSE)
    torch.testing.assert_close(loss, case['loss'], **CLOSE)
    norms = dict(case['grad_norm'])
    grads = to_format(
        {
            n: torch.zeros_like(p) if p.grad is None else p.grad
            for n, p in model.named_parameters()
        },
        'semaim',
    )
    assert set(norms) == set(grads) - {'pos_embed'}
    for key, norm in norms.items():
        if not key.endswith('attn.k.bias'):  # 0, but for rounding
            assert grads[key].norm().item() == pytest.approx(
                norm.item(), rel=1e-4
            ), key


def test_every_case_is_there(golden):
    assert set(golden['cases']) == set(CASES)
    assert issubclass(MODELS.get('semantic'), Order)
