"""What users put in the place of SAIM's parts, and what is none of them."""

import pytest
import torch
from helpers import TINY, config, saim, train
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from mmpretrain.models import VisionTransformer
from mmpretrain.registry import MODELS as MMPRETRAIN_MODELS

from saim_mm import Order, SAIMHead, Target
from saim_mm.models import saim_arguments

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(5))
AVERAGE = dict(type='MovingAverageTeacher')


class Embedding(Target):
    """Of the model's own weights, and nothing said about gradients."""

    def out_channels(self, backbone, teacher):
        return backbone.embed_dims

    def forward(self, images, model=None, view=None):
        return model.backbone.patch_embed(images)[0]


class Returned(Target):
    """Whatever a test wants."""

    values = None

    def forward(self, images, model=None, view=None):
        return self.values


def with_target(target):
    model = saim()
    model.target_generator = target(8)
    return model


def test_a_target_has_no_gradient(monkeypatch):
    monkeypatch.setitem(MODELS.module_dict, 'Embedding', Embedding)
    torch.manual_seed(0)
    model = saim(target_generator=dict(type='Embedding'))
    model.init_weights()
    order = model.sample_order(IMAGES)
    target = model.target_generator(IMAGES, model)
    assert not target.requires_grad
    weight = model.backbone.patch_embed.projection.weight
    grads = []
    for given in (None, target):
        loss = model.compute_loss(IMAGES, order, given)
        grads.append(torch.autograd.grad(loss, weight)[0])
    assert torch.equal(*grads)


@pytest.mark.parametrize(
    'values',
    [
        torch.zeros(2, 16, 1),  # out_channels says 192
        torch.zeros(1, 16, 192),  # one for all images
        torch.zeros(2, 64, 192),  # of smaller patches
        torch.zeros(2, 4, 192),  # of larger ones
        torch.zeros(2, 16, 32),
    ],
)
def test_a_target_of_another_shape_is_named(values, monkeypatch):
    """Three of these were trained with, silently."""
    model = with_target(Returned)
    monkeypatch.setattr(Returned, 'values', values)
    words = f'target_generator=Returned: shape={tuple(values.shape)}: must be '
    with pytest.raises(ValueError) as error:
        model.loss(IMAGES)
    assert str(error.value).startswith(f'{words}(2, 16, 192)')
    assert 'out_channels' in str(error.value)
    monkeypatch.setattr(Returned, 'values', torch.zeros(2, 16, 192))
    assert model.loss(IMAGES)['loss'] > 0


@pytest.mark.parametrize('values', [None, [0.0] * 16])
def test_what_is_no_tensor_is_named(values, monkeypatch):
    monkeypatch.setattr(Returned, 'values', values)
    monkeypatch.setattr(Order, 'forward', lambda *args: values)
    kind = type(values).__name__
    with pytest.raises(ValueError, match=f'Returned: shape={kind!r}: must'):
        with_target(Returned).loss(IMAGES)
    model = saim()
    model.order = Order()
    with pytest.raises(ValueError, match=f'order=Order: shape={kind!r}: must'):
        model.loss(IMAGES)


class Head(BaseModule):
    """As docs/extend.md says."""

    def __init__(self, arch, out_channels, loss=None):
        super().__init__()
        self.linear = torch.nn.Linear(arch['embed_dims'], out_channels)
        self.seen = []

    def forward(self, query):
        return self.linear(query)

    def loss(self, prediction, target, counted):
        self.seen.append(counted)
        return (prediction - target).square().mean()


def test_a_head_of_ones_own(monkeypatch):
    monkeypatch.setitem(MODELS.module_dict, 'Head', Head)
    for prefix in (None, 0.5, 'random'):
        model = saim(head=dict(type='Head'), prefix=prefix)
        assert model.loss(IMAGES)['loss'] > 0
        (counted,) = model.head.seen
        if prefix == 'random':
            assert counted.shape == (2, 16) and counted.dtype == torch.bool
        else:
            assert counted is None


def test_a_random_prefix_needs_a_loss_with_a_mask():
    """Losses whose third argument is another took the mask for it."""
    loss = dict(type='LabelSmoothLoss', label_smooth_val=0.1, num_classes=192)
    assert isinstance(saim(head__loss=loss, prefix=0.5).head, SAIMHead)
    with pytest.raises(ValueError) as error:
        saim(head__loss=loss, prefix='random')
    for word in ("head.loss.type='LabelSmoothLoss'", 'mask', 'Pixel'):
        assert word in str(error.value)


def test_a_loss_that_is_not_the_targets_is_said(monkeypatch):
    said = []
    monkeypatch.setattr(
        saim_arguments, 'print_log', lambda text, *_: said.append(text)
    )
    features = dict(target_generator=dict(type='FeatureTarget'))
    saim()
    saim(head__loss=dict(type='PixelReconstructionLoss', criterion='L1'))
    saim(**features)
    assert not said
    pixels = dict(type='PixelReconstructionLoss', criterion='L2')
    saim(head__loss=pixels, **features)
    (text,) = said
    for word in ('PixelRec', 'FeatureTarget', 'CosineSimilarityLoss', 'base'):
        assert word in text


class Last(Order):
    random = False

    def forward(self, grid, noise, seen):
        return -torch.arange(grid[0] * grid[1]).unsqueeze(0)


def test_an_order_may_be_registered_in_mmpretrain(monkeypatch):
    """As a target may; it was refused."""
    monkeypatch.setitem(MMPRETRAIN_MODELS.module_dict, 'Last', Last)
    for order in ('Last', dict(type='Last')):
        indices = saim(order=order).sample_order(IMAGES).indices
        assert indices[0].tolist() == list(range(15, -1, -1))


@pytest.mark.parametrize('name', ['VisionTransformer', 'SAIMViT', 'nonesuch'])
def test_a_teacher_that_is_none_is_named(name):
    with pytest.raises(ValueError) as error:
        saim(teacher=dict(type=name, arch=TINY), order='semantic')
    for word in (f'teacher.type={name!r}', 'FrozenTeacher', 'backbone'):
        assert word in str(error.value)


def test_a_teacher_of_another_network_is_named(tmp_path):
    """It has all weights that there are, and more."""
    sizes = dict(img_size=32, patch_size=8)
    vit = dict(type='VisionTransformer', arch=TINY, out_type='raw', **sizes)
    path = str(tmp_path / 'deep.pth')

    def model(**changes):
        init_cfg = dict(type='Pretrained', checkpoint=path)
        backbone = dict(vit, init_cfg=init_cfg, **changes)
        teacher = dict(type='FrozenTeacher', backbone=backbone)
        return saim(teacher=teacher, order='semantic')

    deep = VisionTransformer(dict(TINY, num_layers=6), **sizes)
    torch.save(deep.state_dict(), path)
    with pytest.raises(ValueError, match=r'has .*layers\.4\..*deeper'):
        model().init_weights()
    same = VisionTransformer(TINY, **sizes).state_dict()
    torch.save(same, path)
    with pytest.raises(ValueError, match=r'qkv\.bias.*other options'):
        model(qkv_bias=False).init_weights()
    # What stands beside the network is no part of it.
    same['mask_token'], same['head.weight'] = torch.ones(1), torch.ones(1)
    torch.save(same, path)
    model().init_weights()


@pytest.mark.parametrize('listed', [True, False])
def test_the_average_of_a_checkpoint_stays(listed, tmp_path):
    """With a list of init_cfg it was started anew, as the encoder."""
    model = saim(teacher=AVERAGE, order='semantic')
    state = model.state_dict()
    state['teacher.encoder.cls_token'] = torch.full((1, 1, 64), 7.0)
    torch.save(state, tmp_path / 'x.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'x.pth'))
    model = saim(
        teacher=AVERAGE,
        order='semantic',
        init_cfg=[init_cfg] if listed else init_cfg,
    )
    model.init_weights()
    assert (model.teacher.encoder.cls_token == 7).all()


def test_images_of_another_size_are_named_before_a_look():
    model = saim(order='semantic')
    words = r'backbone.img_size=\(32, 32\): the images arrive as \(40, 40\)'
    with pytest.raises(ValueError, match=words):
        model.loss(torch.zeros(2, 3, 40, 40))


def test_only_pixels_have_a_blur_to_check(forty_images, tmp_path):
    """Images smaller than a kernel that there is not were refused."""
    cfg = config(forty_images, tmp_path, iters=1)
    cfg.model.backbone.update(img_size=8, patch_size=4)
    cfg.train_dataloader.dataset.pipeline[0].scale = 8
    cfg.model.target_generator = dict(type='HOGTarget')
    train(cfg)
    cfg.model.target_generator = dict(type='SmoothedPatchTarget')
    with pytest.raises(ValueError, match='kernel_size=9: must be at most'):
        train(cfg)
