"""What runs on a GPU, on tensors of one that is not there.

They have devices and shapes, and no numbers; two of different devices raise.
"""

import numpy as np
import pytest
import reference
import torch
from helpers import saim
from torch._subclasses.fake_tensor import FakeTensorMode

import saim_mm
from saim_mm.evaluation.readouts import EfficientProbing


@pytest.fixture
def mode():
    return FakeTensorMode(allow_non_fake_inputs=True)


def test_the_benchmarks_literal_form(mode):
    """`tools/benchmarks/pretrain.py`, the first of `all.sh`."""
    model = saim()
    with mode:
        model.to('cuda')
        pred, loss, _ = reference.pretrain(
            dict(model.named_parameters()),
            torch.randn(2, 3, 32, 32, device='cuda'),
            torch.rand(2, 16, device='cuda'),
            patch_size=8,
            num_layers=4,
            num_heads=4,
        )
    assert pred.device.type == loss.device.type == 'cuda'
    assert pred.shape == (2, 16, 192)


def test_a_readout_that_was_trained_on_the_host(mode):
    model = saim_mm.get_model('saim_vit-mini-p4')
    extract = saim_mm.FeatureExtractor(model)
    readout = EfficientProbing(96, 8)
    image = np.zeros((32, 32, 3), np.uint8)
    with mode:
        extract.model.to('cuda')
        extract.preprocessor.to('cuda')
        (batch,) = extract.batches([('a.jpg', image, False)], readout=readout)
    assert batch.features.shape == (1, 96)
