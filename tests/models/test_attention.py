"""Both forms of attention are the same, and the faster one runs."""

import copy

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmpretrain.models.utils import MultiheadAttention
from mmpretrain.registry import MODELS
from torch import nn

from saim_mm.models import attention


def tensors(length, keys, dtype, width=16):
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(2, 3, n, width, generator=generator).to(dtype)
        for n in (length, keys, keys)
    ]


@pytest.mark.parametrize('kind', ['full', 'causal', 'mask', 'masks'])
@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16])
def test_the_forms_are_equal(kind, dtype):
    """Values, and the gradients of all three."""
    q, k, v = tensors(7, 7 if kind == 'causal' else 9, dtype)
    mask = None
    if kind.startswith('mask'):
        shape = (2, 1, 7, 9) if kind == 'masks' else (7, 9)
        mask = (
            torch.rand(shape, generator=torch.Generator().manual_seed(1)) < 0.6
        )
        mask[..., 0] = True  # no row is empty
    arguments = (mask, kind == 'causal', 0.3)
    results = []
    for form in (
        attention.attend_plainly,
        lambda q, k, v, mask, causal, scale: F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=causal, scale=scale
        ),
    ):
        given = [x.detach().requires_grad_() for x in (q, k, v)]
        out = form(*given, *arguments)
        out.sum().backward()
        results.append([out.detach(), *(x.grad for x in given)])
    bound = 1e-12 if dtype == torch.float64 else 0.05
    for ours, theirs in zip(*results):
        torch.testing.assert_close(ours, theirs, rtol=bound, atol=bound)


@pytest.mark.parametrize(
    ('dtype', 'length', 'is_causal', 'plain'),
    [
        (torch.bfloat16, 64, True, True),
        (torch.bfloat16, attention.PLAIN_UP_TO, True, True),
        (torch.bfloat16, attention.PLAIN_UP_TO + 1, True, False),
        (torch.bfloat16, attention.PLAIN_UP_TO_ALL, False, True),
        (torch.bfloat16, attention.PLAIN_UP_TO_ALL + 1, False, False),
        (torch.float32, 64, True, False),
        (torch.float32, 64, False, False),
    ],
)
def test_which_form_runs(dtype, length, is_causal, plain, monkeypatch):
    called = []
    monkeypatch.setattr(
        attention, 'attend_plainly', lambda q, *_: called.append(q) or q
    )
    q, k, v = tensors(length, length, dtype, width=4)
    attention.attend(q, k, v, None, is_causal, 0.5)
    assert bool(called) == plain


@pytest.mark.parametrize('plain', [True, False])
@pytest.mark.parametrize('bias', [None, 'added'])
def test_values_may_be_shorter_than_keys(plain, bias, monkeypatch):
    """As with a relative position bias; beside matrices in float64."""
    monkeypatch.setattr(attention, 'is_plain', lambda *_: plain)
    q, k, v = tensors(7, 9, torch.float64)
    v = v[..., :5]
    bias = None if bias is None else k[:, :, :7] @ q[:, :, :7].mT
    bias = None if bias is None else torch.cat([bias, bias[..., :2]], dim=-1)
    products = q @ k.mT * 0.3 + (0 if bias is None else bias)
    torch.testing.assert_close(
        attention.attend(q, k, v, bias, False, 0.3),
        products.softmax(dim=-1) @ v,
    )


@pytest.mark.parametrize('parts', [1, 2, 3])
def test_heads_are_split_alike_for_both_forms(parts):
    x = torch.randn(2, 7, parts * 12, generator=torch.Generator())
    for part, split, other in zip(
        x.chunk(parts, dim=-1),
        attention.split_heads(x, parts, 3, plain=True),
        attention.split_heads(x, parts, 3, plain=False),
        strict=True,
    ):
        assert torch.equal(split, other) and split.is_contiguous()
        assert torch.equal(split.transpose(1, 2).flatten(2), part)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_mmpretrain_takes_the_faster_form_too(dtype, monkeypatch):
    """MAE's loss and gradients stay the same, and it is that form that ran."""
    cfg = Config.fromfile(
        'configs/pretrain/baselines/mae_vit-mini-p4_1xb128-coslr-20e_cifar10.py'
    )
    torch.manual_seed(0)
    before = MODELS.build(cfg.model)
    after = copy.deepcopy(before)
    attention.attend_plainly_in_mmpretrain(after)
    called = []
    plainly = attention.attend_plainly
    monkeypatch.setattr(
        attention,
        'attend_plainly',
        lambda *args: called.append(args) or plainly(*args),
    )
    images = torch.randn(4, 3, 32, 32)
    results = []
    for model in (before, after):
        torch.manual_seed(1)  # of MAE's masks
        with torch.autocast('cpu', dtype, enabled=dtype != torch.float32):
            loss = model(images, None, mode='loss')['loss']
        loss.backward()
        blocks = (model.backbone.layers[0], model.neck.decoder_blocks[-1])
        results.append(
            [loss.detach(), *(b.attn.qkv.weight.grad for b in blocks)]
        )
    assert len(called) == (4 + 3 if dtype == torch.bfloat16 else 0)
    bound = 0.02 if dtype == torch.bfloat16 else 0  # to the bit
    for ours, theirs in zip(*results):
        error = (ours - theirs).norm()
        assert error <= bound * theirs.norm()


def test_what_drops_attention_stays(monkeypatch):
    monkeypatch.setattr(
        attention, 'attend', lambda *_: pytest.fail('drops nothing')
    )
    module = MultiheadAttention(8, 2, attn_drop=0.5).train()
    scaled = MultiheadAttention(8, 2, qk_scale=0.3)
    attention.attend_plainly_in_mmpretrain(nn.ModuleList([module, scaled]))
    for each in (module, scaled):
        assert each(torch.randn(2, 5, 8)).shape == (2, 5, 8)
