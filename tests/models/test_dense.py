"""Dense features: windows, relative positions, sizes, pyramids."""

import pytest
import torch
import torch.nn.functional as F
from helpers import TINY
from mmpretrain.models.backbones.vit_sam import TransformerEncoderLayer
from torch import nn

from saim_mm import SAIM, SAIMViT, SimpleFeaturePyramid
from saim_mm.models.layers import Attention, TransformerBlock
from saim_mm.models.vit_arguments import parse_windows

DENSE = dict(
    arch=TINY,
    img_size=64,
    patch_size=8,
    out_type='featmap',
    with_cls_token=False,
    final_norm=False,
    interpolate_mode='bilinear',
)


def vit(**options):
    """A dense backbone in float64 with random weights, of evaluation."""
    torch.manual_seed(0)
    model = SAIMViT(**{**DENSE, **options}).double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


def image(height, width, number=2):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(
        number, 3, height, width, generator=generator, dtype=torch.float64
    )


class LiteralViTDet(nn.Module):
    """ViTDet's backbone of mmpretrain's own blocks, which pad, cut and add."""

    def __init__(self, ours, windows, grid):
        super().__init__()
        self.ours = ours
        self.blocks = nn.ModuleList(
            TransformerEncoderLayer(
                TINY['embed_dims'],
                TINY['num_heads'],
                TINY['feedforward_channels'],
                norm_cfg=dict(type='LN', eps=1e-6),
                use_rel_pos='layers.0.attn.rel_pos_h' in ours.state_dict(),
                window_size=window,
                input_size=grid,
            )
            for window in windows
        ).double()
        self.blocks.load_state_dict(ours.layers.state_dict())

    def forward(self, images):
        size = self.ours.patch_size
        _, _, height, width = images.shape
        images = F.pad(images, (0, -width % size, 0, -height % size))
        x = self.ours.patch_embed.projection(images)
        positions = self.ours.pos_embed.transpose(1, 2).unflatten(
            2, self.ours.patch_resolution
        )
        if positions.shape[2:] != x.shape[2:]:  # mmpretrain: in float32
            positions = F.interpolate(
                positions.float(), x.shape[2:], mode='bilinear'
            )
        x = (x + positions).permute(0, 2, 3, 1)
        maps = []
        for block in self.blocks:
            x = block(x)
            maps.append(x.permute(0, 3, 1, 2))
        return maps


@pytest.mark.parametrize('use_rel_pos', [False, True])
@pytest.mark.parametrize('window', [0, 3, 8])
@pytest.mark.parametrize('size', [(64, 64), (50, 81), (24, 40)])
def test_windows_and_positions_equal_vitdet(use_rel_pos, window, size):
    ours = vit(
        window_size=window,
        use_rel_pos=use_rel_pos,
        global_attn_indexes=[1, 3] if window else None,
        out_indices=range(4),
    )
    windows = [window, 0, window, 0]
    literal = LiteralViTDet(ours, windows, ours.patch_resolution)
    x = image(*size).requires_grad_()
    gradients = []
    for model in (ours, literal):
        maps = model(x)
        gradients.append(torch.autograd.grad(sum(m.sum() for m in maps), x)[0])
    for a, b in zip(ours(x), literal(x)):
        assert a.shape == b.shape == (2, 24, *(-(-s // 8) for s in size))
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-10)


def test_windows_of_the_whole_map_are_global_attention():
    """One built small and global, one built large with windows."""
    small = vit(img_size=32)
    large = SAIMViT(**{**DENSE, 'img_size': 128}, window_size=16).double()
    large.load_state_dict(small.state_dict())  # positions are interpolated
    x = image(128, 128)
    torch.testing.assert_close(
        small(x)[0], large.eval()(x)[0], rtol=0, atol=1e-12
    )
    assert not torch.allclose(
        small(x)[0],
        vit(img_size=32, window_size=8, global_attn_indexes=[3])(x)[0],
    )


def test_relative_positions_start_without_effect_and_are_learned():
    torch.manual_seed(0)
    plain, biased = (
        SAIMViT(**DENSE, window_size=3, use_rel_pos=use) for use in (0, 1)
    )
    missing = biased.load_state_dict(plain.state_dict(), strict=False)
    assert len(missing.missing_keys) == 8
    assert all('.attn.rel_pos_' in key for key in missing.missing_keys)
    x = image(56, 40).float()
    torch.testing.assert_close(plain(x)[0], biased(x)[0])
    biased(x)[0].square().mean().backward()
    for layer in biased.layers:
        assert layer.attn.rel_pos_h.grad.abs().max() > 0
        assert layer.attn.rel_pos_w.grad.abs().max() > 0


def test_relative_positions_with_a_class_token():
    """The class token has no position: its bias is zero, as is that to it."""
    torch.manual_seed(0)
    grid, heads = (3, 4), 2
    attention = Attention(8, heads, rel_pos_grid=grid).double()
    for parameter in attention.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(1, 13, 8, dtype=torch.float64)
    q, k, v = attention.qkv(x).view(1, 13, 3, heads, 4).permute(2, 0, 3, 1, 4)
    bias = torch.zeros(1, heads, 13, 13, dtype=torch.float64)
    for i in range(12):
        for j in range(12):
            rows, columns = i // 4 - j // 4, i % 4 - j % 4
            vector = (
                attention.rel_pos_h[rows + 2]
                + attention.rel_pos_w[columns + 3]
            )
            bias[:, :, 1 + i, 1 + j] = q[:, :, 1 + i] @ vector
    weights = (q @ k.transpose(-1, -2) / 2 + bias).softmax(-1)
    expected = attention.proj((weights @ v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(attention(x, grid=grid), expected)


def test_relative_positions_of_another_size_are_interpolated():
    trained = vit(use_rel_pos=True)
    model = SAIMViT(**{**DENSE, 'img_size': 96}, use_rel_pos=True).double()
    model.load_state_dict(trained.state_dict())
    table = trained.layers[0].attn.rel_pos_h  # 15 distances
    expected = F.interpolate(table.T[None], 23, mode='linear')[0].T
    assert torch.equal(model.layers[0].attn.rel_pos_h, expected)
    x = image(96, 96)
    torch.testing.assert_close(model.eval()(x)[0], trained(x)[0])


@pytest.mark.parametrize('size', [(5, 3), (8, 8), (9, 70)])
def test_an_image_smaller_than_a_window_or_a_patch(size):
    (out,) = vit(window_size=6, use_rel_pos=True)(image(*size))
    assert out.shape[-2:] == tuple(-(-s // 8) for s in size)
    assert out.isfinite().all()


def test_checkpointing_and_freezing_with_windows():
    x = image(50, 41)
    gradients = []
    for with_cp in (False, True):
        model = vit(window_size=3, use_rel_pos=True, with_cp=with_cp).train()
        model(x)[0].square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    for a, b in zip(*gradients):
        torch.testing.assert_close(a, b)
    frozen = vit(window_size=3, frozen_stages=2, use_rel_pos=True).train()
    trained = {n for n, p in frozen.named_parameters() if p.requires_grad}
    assert trained == {
        n
        for n, _ in frozen.named_parameters()
        if n.startswith(('layers.2', 'layers.3'))
    }


def test_drop_path_grows_and_every_relative_position_has_its_depth():
    model = SAIMViT(**DENSE, drop_path_rate=0.3, use_rel_pos=True)
    rates = [layer.drop_path.drop_prob for layer in model.layers]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3])
    name = 'backbone.layers.2.attn.rel_pos_h'
    assert model.get_layer_depth(name, 'backbone.') == (3, 6)


def test_a_pretrained_checkpoint_lacks_only_what_detection_adds():
    weights = SAIMViT(TINY, 32, 8).state_dict()
    dense = SAIMViT(**DENSE, window_size=3, use_rel_pos=True)
    result = dense.load_state_dict(dict(weights), strict=False)
    assert all('.attn.rel_pos_' in key for key in result.missing_keys)
    assert set(result.unexpected_keys) == {
        'cls_token',
        'ln1.weight',
        'ln1.bias',
    }


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (
            dict(window_size=3, with_cls_token=True),
            'window_size=3: must be 0 if there is a class token',
        ),
        (dict(window_size=-1), 'window_size=-1: must be a number of patches'),
        (
            dict(window_size=3, global_attn_indexes=[4]),
            r'global_attn_indexes=\[4\]: must be indices of the 4 blocks',
        ),
        (
            dict(global_attn_indexes=[1]),
            r'global_attn_indexes=\[1\]: must be left out',
        ),
        (
            dict(window_size=3, arch={**TINY, 'num_layers': 3}),
            'global_attn_indexes=None: must be given, because 3 blocks',
        ),
    ],
)
def test_bad_windows(options, message):
    with pytest.raises(ValueError, match=message):
        SAIMViT(**{**DENSE, **options})


def test_pretraining_has_no_windows():
    model = SAIM(
        backbone=dict(
            type='SAIMViT',
            arch=TINY,
            img_size=32,
            patch_size=8,
            use_rel_pos=True,
        ),
        neck=dict(type='SAIMDecoder'),
        head=dict(type='SAIMHead'),
        target_generator=dict(type='SmoothedPatchTarget'),
    )
    with pytest.raises(ValueError, match='use_rel_pos must be left out'):
        model.loss(torch.randn(1, 3, 32, 32), [])


def test_the_end_of_each_quarter_is_global():
    model = SAIMViT(img_size=224, out_type='featmap', with_cls_token=False)
    windows = parse_windows(model, 14, None)
    assert windows == [14, 14, 0] * 4


def test_simple_feature_pyramid():
    pyramid = SimpleFeaturePyramid(16, 8)
    maps = [torch.zeros(1, 16, 6, 10), torch.randn(1, 16, 6, 10)]
    levels = pyramid(maps)
    sizes = [(24, 40), (12, 20), (6, 10), (3, 5), (2, 3)]
    assert [tuple(x.shape) for x in levels] == [(1, 8, *s) for s in sizes]
    # The last map makes all levels, and the last level is the one before.
    changed = pyramid([torch.ones(1, 16, 6, 10), maps[1]])
    assert all(torch.equal(a, b) for a, b in zip(levels, changed))
    assert torch.equal(levels[4], levels[3][..., ::2, ::2])
    assert len(SimpleFeaturePyramid(16, 8, scales=(2, 1))(maps)) == 3
    with pytest.raises(ValueError, match=r'scales=\(3,\): must be some of'):
        SimpleFeaturePyramid(16, scales=(3,))


def test_windowed_block_takes_half_precision():
    block = TransformerBlock(24, 3, 48, window_size=3, rel_pos_grid=(4, 5))
    x = torch.randn(2, 20, 24)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        out = block(x, grid=(4, 5))
    torch.testing.assert_close(out, block(x, grid=(4, 5)), rtol=0.1, atol=0.1)
