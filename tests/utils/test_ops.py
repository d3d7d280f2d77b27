"""torchvision's operators in the place of mmcv's compiled ones."""

import importlib
import math
import sys

import numpy as np
import pytest
import torch
from helpers import call

import saim_mm.detection  # noqa: F401  installs the operators
from saim_mm.utils import ops

from mmcv.ops import (  # isort: skip  (after the operators are installed)
    RoIAlign,
    batched_nms,
    nms,
    roi_align,
    soft_nms,
)

#: Where mmcv's own are compiled, they are used, and compared with ours.
COMPILED = not isinstance(sys.modules[ops.NAME], ops.TorchvisionOps)
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def boxes(number, seed=0, size=100.0):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(number, 2, generator=generator) * size
    extent = torch.rand(number, 2, generator=generator) * size / 2
    scores = torch.rand(number, generator=generator)
    return torch.cat([corner, corner + extent], dim=1), scores


def literal_nms(boxes, scores, threshold, offset):
    """Greedily, box by box."""
    boxes = boxes.double().numpy()
    extent = np.clip(boxes[:, 2:] - boxes[:, :2] + offset, 0, None)
    areas = extent.prod(axis=1)
    kept = []
    for i in scores.argsort(descending=True, stable=True).tolist():
        for j in kept:
            low = np.maximum(boxes[i, :2], boxes[j, :2])
            high = np.minimum(boxes[i, 2:], boxes[j, 2:])
            common = np.clip(high - low + offset, 0, None).prod()
            if common / (areas[i] + areas[j] - common) > threshold:
                break
        else:
            kept.append(i)
    return kept


def literal_roi_align(features, rois, size, scale, ratio, aligned):
    """Bilinear samples, one after the other (Mask R-CNN, Sec. 3)."""
    features, rois = features.double().numpy(), rois.double().numpy()
    _, channels, height, width = features.shape
    out = np.zeros((len(rois), channels, *size))
    for n, (image, *box) in enumerate(rois):
        left, top, right, bottom = np.array(box) * scale - 0.5 * aligned
        extent = np.array([bottom - top, right - left])
        if not aligned:
            extent = np.maximum(extent, 1)
        bins = extent / size
        samples = [ratio or math.ceil(e / s) for e, s in zip(extent, size)]
        for i in range(size[0]):
            for j in range(size[1]):
                total = np.zeros(channels)
                for a in range(samples[0]):
                    for b in range(samples[1]):
                        y = top + bins[0] * (i + (a + 0.5) / samples[0])
                        x = left + bins[1] * (j + (b + 0.5) / samples[1])
                        if -1 <= y <= height and -1 <= x <= width:
                            total += bilinear(features[int(image)], y, x)
                out[n, :, i, j] = total / max(math.prod(samples), 1)
    return torch.from_numpy(out)


def bilinear(image, y, x):
    y, x = (min(max(v, 0), n - 1) for v, n in zip((y, x), image.shape[1:]))
    i, j = int(y), int(x)
    k, m = min(i + 1, image.shape[1] - 1), min(j + 1, image.shape[2] - 1)
    v, u = y - i, x - j
    return (
        image[:, i, j] * (1 - v) * (1 - u)
        + image[:, i, m] * (1 - v) * u
        + image[:, k, j] * v * (1 - u)
        + image[:, k, m] * v * u
    )


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('number', [0, 1, 60])
def test_nms_is_the_literal_one(number, dtype, offset):
    box, score = boxes(number)
    box, score = box.to(dtype), score.to(dtype)
    kept = ops.nms(box, score, 0.3, offset)
    assert kept.dtype == torch.int64
    assert kept.tolist() == literal_nms(box, score.float(), 0.3, offset)
    if number == 60:
        assert 10 < len(kept) < 60


def test_nms_of_many_and_mixed():
    box, score = boxes(10**4)
    dets, kept = nms(box, score, 0.5, max_num=50)
    assert dets.shape == (50, 5) and (dets[:-1, 4] >= dets[1:, 4]).all()
    assert torch.equal(dets[:, :4], box[kept])
    # Strided boxes, and scores of another precision (autocast's).
    strided = torch.cat([box, box], dim=1)[:, :4]
    assert not strided.is_contiguous()
    mixed = ops.nms(strided, score.bfloat16(), 0.5, 0)
    assert torch.equal(mixed, ops.nms(box, score.bfloat16().float(), 0.5, 0))
    # Boxes of other classes do not suppress each other.
    classes = torch.arange(10**4) % 7
    _, kept = batched_nms(
        box, score, classes, dict(type='nms', iou_threshold=0.5)
    )
    each = [
        (classes == c).nonzero()[:, 0][
            ops.nms(box[classes == c], score[classes == c], 0.5, 0)
        ]
        for c in range(7)
    ]
    assert sorted(kept.tolist()) == sorted(torch.cat(each).tolist())


ROIS = torch.tensor(
    [
        [0, 1.0, 2.0, 30.0, 25.0],
        [1, -20.0, -10.0, 12.0, 50.0],  # partly outside the map
        [1, 90.0, 90.0, 120.0, 130.0],  # wholly
        [0, 5.0, 5.0, 5.0, 5.0],  # without area
    ]
)


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('ratio', [0, 2])
@pytest.mark.parametrize('dtype', DTYPES)
def test_roi_align_is_the_literal_one(dtype, ratio, aligned):
    features = torch.randn(
        2, 3, 11, 9, generator=torch.Generator().manual_seed(0)
    ).to(dtype)
    rois = ROIS.to(dtype)
    arguments = ((3, 2), 0.25, ratio)
    found = roi_align(features, rois, *arguments, 'avg', aligned)
    assert found.dtype == dtype
    expected = literal_roi_align(features, rois, *arguments, aligned)
    bound = dict(rtol=0, atol={8: 1e-12, 4: 1e-5, 2: 0.01}[found.itemsize])
    torch.testing.assert_close(found.double(), expected, **bound)
    strided = features.transpose(2, 3).contiguous().transpose(2, 3)
    assert torch.equal(
        roi_align(strided, rois, *arguments, 'avg', aligned), found
    )
    none = roi_align(features, rois[:0], *arguments, 'avg', aligned)
    assert none.shape == (0, 3, 3, 2)


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('ratio', [0, 2])
def test_gradients(ratio, aligned):
    features = torch.randn(2, 2, 6, 5, dtype=torch.float64, requires_grad=True)
    layer = RoIAlign((2, 2), 0.25, ratio, aligned=aligned)
    assert torch.autograd.gradcheck(
        lambda x: layer(x, ROIS.double()), features
    )
    exact = torch.autograd.grad(layer(features, ROIS.double()).sum(), features)
    low = features.detach().bfloat16().requires_grad_()
    layer(low, ROIS.bfloat16()).sum().backward()
    torch.testing.assert_close(
        low.grad.double(), exact[0], rtol=0.02, atol=0.02
    )


if COMPILED:

    def test_both_kinds_are_equal():
        """torchvision's and the compiled operators of mmcv."""
        for seed in range(5):
            box, score = boxes(2000, seed)
            for offset in (0, 1):
                _, kept = nms(box, score, 0.5, offset)
                assert torch.equal(kept, ops.nms(box, score, 0.5, offset))
        features = torch.randn(2, 8, 25, 25)
        rois = torch.cat([torch.arange(2000)[:, None] % 2, box], dim=1)
        for aligned in (True, False):
            for ratio in (0, 2):
                theirs = features.clone().requires_grad_()
                ours = torch.zeros(2000, 8, 7, 7)
                rest = (0.25, ratio, 1, aligned)
                ops.roi_align_forward(
                    features, rois, ours, None, None, 7, 7, *rest
                )
                found = roi_align(
                    theirs, rois, (7, 7), *rest[:2], 'avg', aligned
                )
                torch.testing.assert_close(found, ours, rtol=0, atol=1e-5)
                gradient = torch.randn_like(ours)
                found.backward(gradient)
                back = torch.zeros_like(features)
                ops.roi_align_backward(
                    gradient, rois, None, None, back, 7, 7, *rest
                )
                torch.testing.assert_close(
                    theirs.grad, back, rtol=1e-4, atol=1e-3
                )

    def test_compiled_ones_are_used():
        assert not ops.install()
        assert nms.__module__ == 'mmcv.ops.nms'
        soft_nms(*boxes(3))
        operator = sys.modules[ops.NAME].nms
        assert operator.__wrapped__.__module__ != ops.__name__

else:

    def test_what_is_missing_is_named():
        with pytest.raises(
            NotImplementedError, match=r'softnms needs .* compiled .*faq'
        ):
            soft_nms(*boxes(3))
        with pytest.raises(NotImplementedError, match="pool_mode='max'"):
            RoIAlign(2, 1.0, 2, 'max')(torch.randn(1, 1, 4, 4), ROIS[:1])


def test_mmdet_has_no_operator_that_only_raises():
    """Whatever was imported before: mmpretrain imports parts of mmdet."""
    import mmdet.models  # noqa: F401

    for name in ('rpn_head', 'base_dense_head'):
        module = sys.modules[f'mmdet.models.dense_heads.{name}']
        assert module.batched_nms is batched_nms
    masks = sys.modules['mmdet.structures.mask.structures']
    assert masks.roi_align is roi_align


def test_it_is_installed_once():
    before = sys.modules[ops.NAME]
    assert ops.install() is not COMPILED
    assert sys.modules[ops.NAME] is before
    assert importlib.util.find_spec(ops.NAME) is not None


@pytest.mark.skipif(COMPILED, reason='they are loaded before')
def test_compiled_ones_of_another_torch(tmp_path):
    """They cannot be loaded, and are not needed."""
    (tmp_path / '_ext.py').write_text(
        "raise ImportError('undefined symbol: _ZN3c10')"
    )
    script = tmp_path / 'script.py'
    script.write_text(
        f"import mmcv; mmcv.__path__.insert(0, '{tmp_path}')\n"
        'import saim_mm.detection, torch\n'
        'from mmcv.ops import nms\n'
        'box = torch.tensor([[0.0, 0, 9, 9]])\n'
        'print(nms(box.repeat(2, 1), torch.ones(2), 0.5)[1])\n'
    )
    code, output = call(sys.executable, script)
    assert code == 0, output
    assert 'cannot be loaded (undefined symbol: _ZN3c10): nms' in output
    assert 'tensor([0])' in output
