"""Targets other than pixels, and the teachers that give them."""

import pytest
import torch
import torch.nn.functional as F
from cost import flops_per_image
from helpers import FOLDER, TINY, config, saim, train, weights
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmpretrain.models import ResNet, VisionTransformer
from mmpretrain.models.selfsup.maskfeat import HOGGenerator
from mmpretrain.registry import MODELS

from saim_mm import HOGTarget, SAIMViT
from saim_mm.models.orders import build_order
from saim_mm.models.target import pixel_target
from saim_mm.models.vit_outputs import layer_output
from saim_mm.utils.flops import count_flops

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(5))
AVERAGE = dict(type='MovingAverageTeacher')
FEATURES = dict(target_generator=dict(type='FeatureTarget'))
NEPA = dict(
    order='raster',
    neck__depth=0,
    head__predictor='identity',
    target_generator=dict(type='InputEmbeddingTarget'),
)
VIT = dict(type='VisionTransformer', arch=TINY, img_size=32, patch_size=8)
CLOSE = dict(rtol=0, atol=1e-6)


@pytest.fixture(scope='module')
def vit(tmp_path_factory):
    """Of mmpretrain, and a checkpoint of a classifier around it."""
    torch.manual_seed(1)
    model = VisionTransformer(TINY, 32, 8, out_type='raw')
    model.init_weights()
    model.eval()
    path = tmp_path_factory.mktemp('teacher') / 'vit.pth'
    state = {f'backbone.{n}': v for n, v in model.state_dict().items()}
    state['visual_proj.proj'] = torch.randn(24, 12)
    torch.save(dict(state_dict=state), path)
    return model, str(path), state


def frozen(path, **changes):
    """A config of a teacher from the checkpoint."""
    init_cfg = dict(type='Pretrained', checkpoint=path, prefix='backbone')
    backbone = dict(VIT, out_type='raw', init_cfg=init_cfg, **changes)
    return dict(type='FrozenTeacher', backbone=backbone)


def test_features_are_compared_at_length_one():
    torch.manual_seed(0)
    model = saim(teacher=AVERAGE, **FEATURES)
    model.init_weights()
    order = model.sample_order(IMAGES)
    pred = order.unsort(model.predict_patches(IMAGES, order))
    tokens = layer_output(model.teacher.encoder, IMAGES, -1, 'raw')[:, 1:]
    assert pred.shape == tokens.shape == (2, 16, 64)
    lengths = [x.norm(dim=-1, keepdim=True) for x in (pred, tokens)]
    expected = ((pred / lengths[0] - tokens / lengths[1]) ** 2).sum(-1).mean()
    loss = model.loss(IMAGES, order=order)['loss']
    torch.testing.assert_close(loss, expected, **CLOSE)
    loss.backward()
    assert all(p.grad is None for p in model.teacher.parameters())
    assert all(p.grad is not None for p in model.neck.parameters())
    # Without a teacher: of the model itself, with no gradient through it.
    model.zero_grad()
    alone = saim(**FEATURES)
    alone.load_state_dict(model.state_dict(), strict=False)
    assert alone.loss(IMAGES, order=order)['loss'] == loss
    view = alone.look(IMAGES)
    assert not alone.target_generator(IMAGES, alone, view).requires_grad


def test_one_look_serves_order_and_target(monkeypatch):
    model = saim(teacher=AVERAGE, order='semantic', **FEATURES)
    calls = []
    forward = model.teacher.forward
    monkeypatch.setattr(
        model.teacher, 'forward', lambda x: calls.append(x) or forward(x)
    )
    model.loss(IMAGES)
    assert len(calls) == 1


def test_moving_average_by_hand():
    torch.manual_seed(0)
    model = saim(
        teacher=dict(AVERAGE, momentum=0.5, end_momentum=0.1, ramp=0.4),
        **FEATURES,
    )
    model.init_weights()
    model.train()
    teacher = model.teacher
    assert not any(m.training for m in teacher.modules())
    assert not any(p.requires_grad for p in teacher.parameters())
    weight = model.backbone.cls_token
    mean = weight.detach().clone()
    mine = teacher.encoder.cls_token
    assert torch.equal(mine, mean)  # as it starts
    for progress, momentum in ((0.1, 0.4), (0.2, 0.3), (0.4, 0.1), (0.9, 0.1)):
        with torch.no_grad():
            weight += 1
        teacher.update(model.backbone, progress)
        mean = (1 - momentum) * mean + momentum * weight.detach()
        torch.testing.assert_close(mine.data, mean, **CLOSE)


def test_the_defaults_are_semaims():
    """Decay 0.999 to 0.9999 over the first 100 of 800 epochs."""
    model = saim(teacher=AVERAGE, **FEATURES)
    new, old = torch.ones(1, 1, 64), torch.zeros(1, 1, 64)
    for epoch, decay in ((0, 0.999), (50, 0.99945), (100, 0.9999)):
        model.backbone.cls_token.data = new
        model.teacher.encoder.cls_token.data = old.clone()
        model.teacher.update(model.backbone, epoch / 800)
        share = model.teacher.encoder.cls_token.data[0, 0, 0].item()
        assert 1 - share == pytest.approx(decay, abs=1e-7)
        epochs = model.teacher.ramp * 800
    assert epochs == 100


@HOOKS.register_module()
class Watch(Hook):
    """The encoder's weights after each iteration."""

    priority = 'LOWEST'
    seen = []

    def after_train_iter(self, runner, *args, **kwargs):
        self.seen.append(runner.model.backbone.ln1.weight.detach().clone())


def semaim(images, work_dir, iters):
    cfg = config(images, work_dir, iters=iters)
    cfg.model.order = dict(type='SemanticOrder')
    cfg.model.target_generator = dict(type='FeatureTarget')
    cfg.model.teacher = dict(AVERAGE, momentum=0.5, end_momentum=0.1, ramp=0.5)
    cfg.model.head.pop('loss')
    cfg.optim_wrapper.clip_grad = dict(max_norm=3)
    return cfg


@pytest.mark.parametrize('counts', [1, 2])
def test_it_follows_every_step_of_a_training(forty_images, tmp_path, counts):
    cfg = semaim(forty_images, tmp_path, 4)
    cfg.optim_wrapper.accumulative_counts = counts
    Watch.seen.clear()
    runner = train(cfg, hooks=[dict(type='Watch')])
    mean = torch.ones(24)  # as a LayerNorm starts
    for number, weight in enumerate(Watch.seen, start=1):
        if number % counts == 0:
            momentum = 0.5 - 0.4 * min(number / 4 / 0.5, 1)
            mean = (1 - momentum) * mean + momentum * weight
    assert not torch.equal(mean, Watch.seen[-1])
    mine = runner.model.teacher.encoder.ln1.weight
    torch.testing.assert_close(mine.data, mean, **CLOSE)
    saved = weights(tmp_path / 'iter_4.pth')
    assert torch.equal(saved['teacher.encoder.ln1.weight'], mine)
    # A classifier takes the encoder, and not its average.
    path = str(tmp_path / 'iter_4.pth')
    vit = SAIMViT(
        TINY, 32, 8, init_cfg=dict(type='Pretrained', checkpoint=path)
    )
    vit.init_weights()
    assert torch.equal(vit.ln1.weight, Watch.seen[-1])


def test_it_is_resumed_to_the_bit(forty_images, tmp_path):
    whole = train(semaim(forty_images, tmp_path / 'whole', 4))
    cfg = semaim(forty_images, tmp_path / 'parts', 4)
    with pytest.raises(KeyboardInterrupt):
        train(cfg, hooks=[dict(type='StopAfter', iteration=2)])
    parts = train(cfg, resume=True)
    assert parts.iter == 4
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, parts.model.state_dict()[name]), name


def test_without_the_hook_the_second_step_is_refused(forty_images, tmp_path):
    cfg = semaim(forty_images, tmp_path, 4)
    cfg.default_hooks.pop('teacher')
    with pytest.raises(ValueError, match='TeacherHook.*does not move'):
        train(cfg)


def test_a_checkpoint_without_average_starts_it():
    torch.manual_seed(0)
    model, other = saim(teacher=AVERAGE, order='semantic'), saim()
    state = other.state_dict()
    model.load_state_dict(state, strict=True)
    for name, value in model.teacher.encoder.state_dict().items():
        assert torch.equal(value, state[f'backbone.{name}']), name
    # One with it brings its own.
    state = model.state_dict()
    state['teacher.encoder.cls_token'] = torch.ones(1, 1, 64)
    model.load_state_dict(state)
    assert (model.teacher.encoder.cls_token == 1).all()


def test_frozen_vit(vit):
    theirs, path, _ = vit
    plain = saim()
    model = saim(teacher=frozen(path), **FEATURES)
    model.init_weights()
    model.train()
    part = model.teacher.parts[0]['backbone']
    assert not any(m.training for m in part.modules())
    with torch.no_grad():
        tokens = theirs(IMAGES)[0]
    view = model.look(IMAGES)
    assert torch.equal(view.patches, tokens[:, 1:])
    assert torch.equal(view.cls_token, tokens[:, 0])
    order = build_order('raster').sample(2, (4, 4), 'cpu')
    loss = model.loss(IMAGES, order=order)['loss']
    loss.backward()
    pred = model.predict_patches(IMAGES, order)
    cosine = F.cosine_similarity(pred, tokens[:, 1:], dim=-1)
    torch.testing.assert_close(loss, 2 - 2 * cosine.mean(), **CLOSE)
    assert pred.shape[-1] == 24
    assert all(p.grad is None for p in part.parameters())
    # It is in no checkpoint, and in no optimiser; it goes to any device.
    assert list(model.state_dict()) == list(plain.state_dict())
    assert len(list(model.parameters())) == len(list(plain.parameters()))
    model.double()
    assert part.cls_token.dtype == torch.float64


def test_the_order_may_look_through_it(vit):
    theirs, path, _ = vit
    model = saim(teacher=frozen(path), order='semantic')
    model.init_weights()
    with torch.no_grad():
        tokens = theirs(IMAGES)[0]
    cosine = F.cosine_similarity(tokens[:, :1], tokens[:, 1:], dim=-1)
    order = model.sample_order(IMAGES)
    assert torch.equal(order.indices[:, 0], cosine.argmax(dim=1))
    model.order.similarity = 'self'
    message = r"similarity='self': must be one of \['gap', 'cls'\]"
    with pytest.raises(ValueError, match=message):
        model.sample_order(IMAGES)


def test_other_kinds_of_frozen_backbone(vit, tmp_path):
    _, path, state = vit
    # A map of features; by convolutions, too.
    model = saim(
        teacher=frozen(path) | dict(
            backbone=frozen(path)['backbone'] | dict(out_type='featmap')
        ),
        **FEATURES,
    )  # fmt: skip
    model.init_weights()
    view = model.look(IMAGES)
    assert view.cls_token is None and view.patches.shape == (2, 16, 24)
    raw = saim(teacher=frozen(path), **FEATURES)
    raw.init_weights()
    assert torch.equal(view.patches, raw.look(IMAGES).patches)
    resnet = dict(type='ResNet', depth=18, out_indices=(1,))
    torch.save(ResNet(18, out_indices=(1,)).state_dict(), tmp_path / 'r.pth')
    resnet['init_cfg'] = dict(
        type='Pretrained', checkpoint=str(tmp_path / 'r.pth')
    )
    model = saim(
        teacher=dict(type='FrozenTeacher', backbone=resnet),
        order=dict(type='SemanticOrder', similarity='gap'),
        **FEATURES,
    )
    model.init_weights()
    assert model.loss(IMAGES)['loss'] > 0
    assert model.head.predictor[-1].out_features == 128
    # CLIP's projection, token by token.
    teacher = frozen(path)
    teacher['neck'] = dict(
        type='CLIPProjection',
        in_channels=24,
        out_channels=12,
        init_cfg=dict(
            type='Pretrained', checkpoint=path, prefix='visual_proj.'
        ),
    )
    model = saim(teacher=teacher, **FEATURES)
    model.init_weights()
    torch.testing.assert_close(
        model.look(IMAGES).patches,
        view.patches @ state['visual_proj.proj'],
        rtol=0,
        atol=1e-5,
    )
    assert model.head.predictor[-1].out_features == 12


@pytest.mark.parametrize(
    'change, words',
    [
        (dict(patch_size=16), ['(1, 5, 24)', '4 x 4', 'patch_size']),
        (
            dict(patch_size=16, out_type='featmap'),
            ['(1, 4, 24)', '4 x 4', 'patch_size'],
        ),
        (dict(out_type='cls_token'), ["out_type='featmap'", '4 x 4']),
        (dict(in_channels=4), ['teacher.backbone=', '(3, 32, 32)']),
        (dict(init_cfg=None), ['teacher.backbone.init_cfg=None', 'weights']),
        (
            dict(init_cfg=dict(type='Xavier')),
            ['teacher.backbone.init_cfg', 'Xavier', 'Pretrained'],
        ),
    ],
)
def test_bad_teachers_are_named_when_built(vit, change, words):
    teacher = frozen(vit[1])
    teacher['backbone'].update(change)
    with pytest.raises(ValueError) as error:
        saim(teacher=teacher)
    for word in words:
        assert word in str(error.value)


def test_missing_weights_are_named_before_training(
    vit, forty_images, tmp_path
):
    _, path, state = vit
    cfg = config(forty_images, tmp_path / 'run', iters=2)
    cfg.model.target_generator = dict(type='FeatureTarget')
    cfg.model.head.pop('loss')
    few = dict(list(state.items())[:-5])
    torch.save(few, tmp_path / 'few.pth')
    deeper = dict(VIT, arch=dict(TINY, embed_dims=12))
    for init_cfg, backbone, words in (
        (dict(checkpoint='/nowhere/x.pth'), VIT, ['/nowhere/x.pth']),
        (dict(checkpoint=path), VIT, ['cls_token', 'prefix', 'backbone.']),
        (
            dict(checkpoint=str(tmp_path / 'few.pth'), prefix='backbone'),
            VIT,
            ['few.pth', 'lacks', 'ln1.weight'],
        ),
        (dict(checkpoint=path, prefix='backbone'), deeper, ['12', 'size']),
    ):
        init_cfg = dict(init_cfg, type='Pretrained')
        cfg.model.teacher = dict(
            type='FrozenTeacher',
            backbone=dict(backbone, out_type='raw', init_cfg=init_cfg),
        )
        with pytest.raises((ValueError, FileNotFoundError)) as error:
            train(cfg)
        for word in words:
            assert word in str(error.value)


def test_next_embedding_by_hand():
    """Minus the mean cosine, and no gradient through the target."""
    torch.manual_seed(0)
    model = saim(**NEPA)
    model.init_weights()
    vit = model.backbone
    loss = model.loss(IMAGES)['loss']
    loss.backward()
    grad = vit.patch_embed.projection.weight.grad.clone()

    model.zero_grad()
    patches = vit.patch_embed(IMAGES)[0] + vit.pos_embed[:, 1:]
    cls_token = (vit.cls_token + vit.pos_embed[:, :1]).expand(2, -1, -1)
    x = torch.cat([cls_token, patches[:, :-1]], dim=1)
    mask = torch.ones(16, 16).tril().bool()
    for layer in vit.layers:
        x = layer(x, mask=mask)
    pred, target = vit.ln1(x), patches.detach()
    expected = -F.cosine_similarity(pred, target, dim=-1).mean()
    expected.backward()
    torch.testing.assert_close(loss, expected, **CLOSE)
    torch.testing.assert_close(
        grad, vit.patch_embed.projection.weight.grad, **CLOSE
    )
    assert not list(model.head.parameters())
    assert not list(model.neck.parameters())


def test_hog_is_mmpretrains_and_fits_other_grids():
    images = torch.randn(2, 3, 224, 224)
    torch.testing.assert_close(
        HOGTarget(16)(images), HOGGenerator()(images), rtol=0, atol=0
    )
    # Wider than high: the patches that do not touch the cut are the same.
    target = HOGTarget(4)
    images = torch.randn(2, 3, 32, 32)
    whole = target(images).reshape(2, 8, 8, -1)
    part = target(images[:, :, :16]).reshape(2, 4, 8, -1)
    assert torch.equal(part[:, :3], whole[:, :3])
    assert torch.equal(target(images).reshape(2, 8, 8, -1), whole)
    model = saim(target_generator=dict(type='HOGTarget', nbins=6, pool=8))
    assert model.head.predictor[-1].out_features == 18
    order = model.sample_order(IMAGES)
    pred = order.unsort(model.predict_patches(IMAGES, order))
    expected = ((pred - model.target_generator(IMAGES)) ** 2).mean()
    loss = model.loss(IMAGES, order=order)['loss']
    torch.testing.assert_close(loss, expected, **CLOSE)
    assert list(model.state_dict())[-1].startswith('head.')
    with torch.autocast('cpu', torch.bfloat16):
        low = model.target_generator(IMAGES.bfloat16())
    assert low.dtype == torch.float32


@pytest.mark.parametrize(
    'change, words',
    [
        (
            dict(target_generator=dict(type='HOGTarget', pool=3)),
            ['target_generator.pool', '3', 'patch_size=8'],
        ),
        (
            dict(target_generator=dict(type='HOGTarget', pool=0)),
            ['target_generator.pool=0'],
        ),
        (
            dict(target_generator=dict(type='HOGTarget', nbins=0)),
            ['target_generator.nbins=0'],
        ),
        (
            dict(
                target_generator=dict(type='HOGTarget'),
                backbone__patch_size=1,
            ),
            ['backbone.patch_size=1', 'HOGTarget'],
        ),
        (dict(prefix=float('nan')), ['prefix=nan', '16 patches']),
        (dict(teacher=AVERAGE), ['MovingAverageTeacher', 'neither looks']),
        (
            dict(
                teacher=AVERAGE,
                order='raster',
                target_generator=dict(type='HOGTarget'),
            ),
            ['RasterOrder', 'HOGTarget', 'neither looks'],
        ),
        (
            dict(
                order=dict(type='SemanticOrder', similarity='self'),
                backbone__arch=dict(TINY, num_layers=1),
            ),
            ["SemanticOrder.similarity='self'", 'two blocks'],
        ),
        (
            dict(target_generator=dict(type='GlobalAveragePooling')),
            ['target_generator.type', 'GlobalAveragePooling', 'HOGTarget'],
        ),
        (
            dict(head__predictor='identity'),
            ['predictor', 'identity', '64 channels', '192'],
        ),
        (dict(teacher=dict(AVERAGE, momentum=0)), ['teacher.momentum=0']),
        (dict(teacher=dict(AVERAGE, ramp=2)), ['teacher.ramp=2', 'most 1']),
        (
            dict(teacher=dict(AVERAGE, end_momentum='no')),
            ['teacher.end_momentum', 'no'],
        ),
    ],
)
def test_bad_values_are_named(change, words):
    with pytest.raises(ValueError) as error:
        saim(**change)
    for word in words:
        assert word in str(error.value)


def test_frozen_weights_are_there_however_a_model_is_made(vit):
    """Without init_weights, as `get_model` makes it for pictures."""
    theirs, path, _ = vit
    model = saim(teacher=frozen(path), **FEATURES)
    with torch.no_grad():
        tokens = theirs(IMAGES)[0]
    assert torch.equal(model.look(IMAGES).patches, tokens[:, 1:])


def test_attention_that_a_teacher_lacks_is_refused_when_built(vit):
    for similarity, change in (
        ('self', {}),
        ('cls', dict(out_type='featmap')),
    ):
        teacher = frozen(vit[1])
        teacher['backbone'].update(change)
        order = dict(type='SemanticOrder', similarity=similarity)
        with pytest.raises(ValueError, match=f"similarity='{similarity}'"):
            saim(teacher=teacher, order=order)


def test_pretrained_brings_its_average(tmp_path):
    torch.manual_seed(0)
    path = str(tmp_path / 'average.pth')
    state = saim(teacher=AVERAGE, order='semantic').state_dict()
    state['teacher.encoder.cls_token'] = torch.ones(1, 1, 64)
    torch.save(dict(state_dict=state), path)
    model = saim(teacher=AVERAGE, order='semantic', pretrained=path)
    model.init_weights()
    assert (model.teacher.encoder.cls_token == 1).all()
    # Of one without, it is the encoder.
    torch.save(dict(state_dict=saim().state_dict()), path)
    model = saim(teacher=AVERAGE, order='semantic', pretrained=path)
    model.init_weights()
    mine = model.teacher.encoder.state_dict()
    for name, value in model.backbone.state_dict().items():
        assert torch.equal(value, mine[name]), name


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('looking', [dict(order='semantic'), FEATURES])
def test_every_weight_is_trained_though_the_encoder_looks(looking, dtype):
    """In autocast, too, which keeps copies of weights."""
    torch.manual_seed(0)
    model = saim(**looking)
    model.init_weights()
    with torch.autocast('cpu', dtype, enabled=dtype != torch.float32):
        model.loss(IMAGES)['loss'].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None or not parameter.requires_grad, name


def test_no_loss_is_the_targets():
    for loss in ({}, dict(head__loss=None)):
        module = saim(**FEATURES, **loss).head.loss_module
        assert type(module).__name__ == 'CosineSimilarityLoss'
    loss = dict(type='PixelReconstructionLoss', criterion='L1')
    module = saim(**FEATURES, head__loss=loss).head.loss_module
    assert type(module.penalty).__name__ == 'L1Loss'


def test_hog_of_any_patch():
    """The cells of odd patches; other types than float32."""
    model = saim(
        target_generator=dict(type='HOGTarget'),
        backbone__img_size=30,
        backbone__patch_size=5,
    )
    images = IMAGES[..., :30, :30]
    target = model.target_generator(images)
    assert model.target_generator.pool == 1
    assert target.shape == (2, 36, 3 * 9 * 25) and target.isfinite().all()
    model.double()
    assert torch.equal(model.target_generator(images.double()), target)


def test_what_is_no_pixels_is_not_drawn():
    for change in (FEATURES, NEPA):
        with pytest.raises(ValueError, match='must be SmoothedPatchTarget'):
            pixel_target(saim(**change))


def test_looking_is_counted():
    """The pass of the encoder without gradients is in the cost."""
    cfg = Config.fromfile(FOLDER)
    cfg.model.backbone.update(arch=TINY)
    plain = flops_per_image(cfg)
    vit = MODELS.build(cfg.model.backbone)
    images = torch.zeros(1, 3, *vit.img_size)

    def one_pass():
        return vit(images)[0].sum()

    forward, _ = count_flops(one_pass)
    cfg.model.order = 'semantic'
    for teacher in (None, AVERAGE):
        cfg.model.teacher = teacher
        semantic = flops_per_image(cfg)
        # Once, and not in the backward pass.
        assert semantic[0] - plain[0] == forward > 0
        assert semantic[1] - plain[1] == forward
    # Of a frozen teacher without its weights.
    cfg.model.teacher = frozen('not-there.pth', img_size=vit.img_size)
    assert flops_per_image(cfg)[0] - plain[0] > 0.5 * forward
    cfg.model.update(order='stochastic', prefix=0.5, teacher=None)
    assert flops_per_image(cfg)[1] < 0.8 * plain[1]
