"""The optimisations change the speed, and the results by rounding only."""

import platform
import subprocess
import sys

import numpy as np
import pytest
import reference
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmpretrain.registry import MODELS
from torch.nn.attention import SDPBackend, sdpa_kernel

from saim_mm import PredictionOrder, SAIMRunner
from saim_mm.engine.checks import device
from saim_mm.engine.checks.device import check_precision
from saim_mm.models.layers import compile_blocks

IN1K = 'configs/pretrain/saim_vit-base-p16_32xb64-amp-coslr-300e_in1k.py'
SIZE, PATCH = 32, 4
ARCH = dict(embed_dims=64, num_layers=4, num_heads=2, feedforward_channels=256)


def config():
    """The paper's config, small."""
    cfg = Config.fromfile(IN1K)
    cfg.model.backbone.update(arch=ARCH, img_size=SIZE, patch_size=PATCH)
    cfg.train_dataloader.dataset.pipeline[0].scale = SIZE
    return cfg


def build(**options):
    torch.manual_seed(0)
    cfg = config()
    cfg.merge_from_dict(options)
    model = MODELS.build(cfg.model)
    model.init_weights()
    return model.train()


def relative(values, reference):
    """Relative error in the 2-norm, over all tensors together."""
    values, reference = (
        torch.cat([t.detach().double().flatten() for t in tensors])
        for tensors in (values, reference)
    )
    return ((values - reference).norm() / reference.norm()).item()


PATHS = {
    # dtype, options of the config, compiled, attention kernel
    'float32, unfused': (torch.float32, {}, None, SDPBackend.MATH),
    'float32': (torch.float32, {}, None, None),
    'float32, compiled': (torch.float32, {}, 'aot_eager', None),
    'float32, checkpointing': (
        torch.float32,
        {'model.backbone.with_cp': True, 'model.neck.with_cp': True},
        None,
        None,
    ),
    'bfloat16, unfused': (torch.bfloat16, {}, None, SDPBackend.MATH),
    'bfloat16': (torch.bfloat16, {}, None, None),
    'bfloat16, compiled': (torch.bfloat16, {}, 'aot_eager', None),
}
#: Graphs of a compiled model, however deep.
GRAPHS = 3
# Predictions, loss and gradients: in units of the dtype's epsilon. The loss is
# a mean over many pixels, whose errors cancel.
BOUNDS = {torch.float32: (8, 1, 8), torch.bfloat16: (2, 0.1, 2)}


@pytest.mark.parametrize(
    'path',
    [
        *PATHS,
        pytest.param('inductor', marks=pytest.mark.slow),
    ],
)
def test_every_path_matches_the_float64_reference(path):
    dtype, options, backend, kernel = PATHS.get(
        path, (torch.bfloat16, {}, 'inductor', None)
    )
    model = build(**options)
    parameters = {
        name: p.detach().double().requires_grad_(p.requires_grad)
        for name, p in model.named_parameters()
    }
    torch.manual_seed(1)
    images = torch.randn(8, 3, SIZE, SIZE)
    noise = torch.rand(8, (SIZE // PATCH) ** 2)
    pred, loss, _ = reference.pretrain(
        parameters,
        images.double(),
        noise.double(),
        patch_size=PATCH,
        num_layers=ARCH['num_layers'],
        num_heads=ARCH['num_heads'],
    )
    loss.backward()

    order = PredictionOrder.from_noise(noise)
    if backend:
        torch._dynamo.reset()
        compile_blocks(model, backend=backend)
    kernels = [kernel] if kernel else list(SDPBackend.__members__.values())
    with (
        sdpa_kernel(kernels),
        torch.autocast('cpu', dtype, enabled=dtype != torch.float32),
    ):
        mine = model.compute_loss(images, order)
        with torch.no_grad():
            my_pred = order.unsort(model.predict_patches(images, order))
    mine.backward()

    epsilon = torch.finfo(dtype).eps
    names = [n for n, p in parameters.items() if p.requires_grad]
    grads = dict(model.named_parameters())
    errors = (
        relative([my_pred], [pred]),
        relative([mine], [loss]),
        relative(
            [grads[n].grad for n in names],
            [parameters[n].grad for n in names],
        ),
    )
    for error, bound in zip(errors, BOUNDS[dtype]):
        assert error < bound * epsilon, [e / epsilon for e in errors]


def test_bfloat16_keeps_weights_and_gradients_in_float32():
    model = build()
    wrapper = build_optim_wrapper(model, config().optim_wrapper)
    seen = set()
    for module in (model.backbone.layers[0], model.neck.layers[-1]):
        module.attn.qkv.register_forward_hook(
            lambda *args: seen.add(args[-1].dtype)
        )
        module.ffn.layers[1].register_forward_hook(
            lambda *args: seen.add(args[-1].dtype)
        )
    before = [p.clone() for p in model.parameters()]
    images = torch.randint(0, 256, (4, 3, SIZE, SIZE), dtype=torch.uint8)
    log = model.train_step(dict(inputs=images, data_samples=None), wrapper)
    assert seen == {torch.bfloat16}
    assert log['loss'].dtype == torch.float32
    trained = [p for p in model.parameters() if p.requires_grad]
    assert {p.dtype for p in trained} == {torch.float32}
    assert all(p.grad is None or p.grad.dtype == p.dtype for p in trained)
    assert any((a != b).any() for a, b in zip(before, model.parameters()))


def test_merged_groups_train_as_the_default_ones():
    """Two groups rather than hundreds; a step gives the same weights."""
    results = []
    for constructor, fused in (
        ('DefaultOptimWrapperConstructor', False),
        ('MergedOptimWrapperConstructor', False),
        ('MergedOptimWrapperConstructor', True),
    ):
        model = build()
        cfg = config().optim_wrapper
        cfg.constructor = constructor
        cfg.optimizer.fused = fused
        wrapper = build_optim_wrapper(model, cfg)
        torch.manual_seed(1)
        images = torch.randn(4, 3, SIZE, SIZE)
        for _ in range(3):
            wrapper.update_params(model.loss(images)['loss'])
        groups = wrapper.optimizer.param_groups
        options = {
            p: (g['lr'], g['weight_decay'])
            for g in groups
            for p in g['params']
        }
        named = dict(model.named_parameters())
        results.append(
            (
                len(groups),
                {n: options[p] for n, p in named.items() if p in options},
                named,
            )
        )
    default, merged, fused = results
    assert default[0] > 50 and merged[0] == fused[0] == 2
    assert default[1] == merged[1] == fused[1]
    for name, parameter in default[2].items():
        assert torch.equal(parameter, merged[2][name]), name
        # The keys' bias has no gradient but rounding, which AdamW scales.
        trained = [p[name] for p in (default[2], fused[2])]
        if name.endswith('qkv.bias'):
            trained = [
                p.detach().unflatten(0, (3, -1))[[0, 2]] for p in trained
            ]
        assert torch.allclose(*trained, atol=1e-5), name


def test_mmengines_target_of_compiling_is_refused():
    with pytest.raises(ValueError, match="compile.target='forward': must be"):
        compile_blocks(torch.nn.Linear(2, 2), target='forward')


def test_merged_groups_keep_every_option():
    model = build()
    wrapper = build_optim_wrapper(
        model,
        dict(
            constructor='MergedOptimWrapperConstructor',
            optimizer=dict(type='SGD', lr=1.0, weight_decay=0.1),
            paramwise_cfg=dict(
                norm_decay_mult=0.0,
                custom_keys={'head': dict(lr_mult=2.0)},
            ),
        ),
    )
    options = sorted(
        (g['lr'], g['weight_decay']) for g in wrapper.optimizer.param_groups
    )
    assert options == [(1.0, 0.0), (1.0, 0.1), (2.0, 0.1)]


def run(photos, work_dir, **options):
    """Two epochs through the Runner; losses, and the compiler's counters."""
    cfg = config()
    cfg.merge_from_dict(
        {
            'train_dataloader.dataset.data_root': str(photos),
            'train_dataloader.batch_size': 16,
            'train_dataloader.num_workers': 0,
            'train_dataloader.persistent_workers': False,
            'train_cfg.max_epochs': 2,
            'work_dir': str(work_dir),
            'experiment_name': work_dir.name,
            **options,
        }
    )
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    runner = SAIMRunner.from_cfg(cfg)
    runner.train()
    losses, _ = runner.message_hub.get_scalar('train/loss').data
    return np.array(losses), torch._dynamo.utils.counters


@pytest.mark.parametrize(
    'backend',
    ['aot_eager', pytest.param('inductor', marks=pytest.mark.slow)],
)
def test_compiled_blocks_are_one_graph_each(photos, tmp_path, backend):
    """One for all of the encoder, one for the decoder, and no other.

    (And one for its first block, whose queries are positions, not trained.)
    80 photos make 5 batches: nothing is compiled after the first.
    """
    eager, _ = run(photos, tmp_path / 'eager')
    compiled, counters = run(
        photos, tmp_path / 'compiled', compile=dict(backend=backend)
    )
    assert len(eager) == len(compiled) == 10
    assert counters['stats']['unique_graphs'] == GRAPHS
    assert not counters['graph_break'] and not counters['recompiles']
    assert np.abs(eager - compiled).max() < 2e-3  # the same orders and crops
    assert np.abs(eager - eager[0]).max() > 2e-2  # unlike at another step


def test_compiled_with_stochastic_depth_and_pictures(photos, tmp_path):
    """Each of twelve blocks has a rate of its own, so more than 8 graphs."""
    losses, counters = run(
        photos,
        tmp_path / 'run',
        **{
            'compile': dict(backend='eager'),
            'model.backbone.arch.num_layers': 12,
            'model.backbone.drop_path_rate': 0.2,
            'train_dataloader.batch_size': 32,
            'train_dataloader.drop_last': False,
            'custom_hooks': [
                dict(type='ReconstructionHook', interval=3, num_images=2)
            ],
        },
    )
    assert len(losses) == 6
    assert counters['stats']['unique_graphs'] > 2 * 8


def test_a_smaller_last_batch_compiles_once(photos, tmp_path):
    """80 photos are 2 batches of 32 and one of 16, in each of two epochs.

    For each of the two sizes as many graphs as for one.
    """
    losses, counters = run(
        photos,
        tmp_path / 'run',
        **{
            'compile': dict(backend='aot_eager'),
            'train_dataloader.batch_size': 32,
            'train_dataloader.drop_last': False,
        },
    )
    assert len(losses) == 6
    assert counters['stats']['unique_graphs'] == 2 * GRAPHS


def test_a_gpu_without_bfloat16(monkeypatch):
    """The message, on machines that have no such GPU."""
    monkeypatch.setattr(device, 'get_device', lambda: 'cuda')
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda: (7, 5))
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda: 'Tesla T4')
    check_precision('OptimWrapper')
    with pytest.raises(
        ValueError, match='Tesla T4 has no bfloat16.*=AmpOptimWrapper'
    ):
        check_precision('BFloat16OptimWrapper')
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda: (8, 0))
    check_precision('BFloat16OptimWrapper')


@pytest.mark.skipif(
    platform.libc_ver()[0] != 'glibc', reason='another C library'
)
def test_freed_memory_is_kept():
    code = (
        'import resource, torch; '
        'from saim_mm.engine.checks.device import keep_freed_memory; '
        'faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt; '
        'run = lambda: any(len(torch.ones(2**24)) < 0 for _ in range(20)); '
        'before = faults(); run(); mapped = faults() - before; '
        'keep_freed_memory(); run(); '
        'before = faults(); run(); print(mapped, faults() - before)'
    )
    output = subprocess.run(
        [sys.executable, '-c', code],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    mapped, kept = map(int, output.split()[-2:])
    assert 10 * kept < mapped  # pages, of 20 x 64 MiB
