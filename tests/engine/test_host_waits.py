"""A step of pre-training never waits for the device.

Without a GPU, by what PyTorch would have to do on one: the whole Runner on the
CPU, where it is noted which number was read in which iteration; and a step on
tensors of a GPU that is not there, where it is noted what is copied.
"""

import weakref

import pytest
import torch
from helpers import config, train
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS
from mmpretrain.registry import MODELS
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from saim_mm import NonFiniteHook
from saim_mm.engine.scalars import DeferredScalars

WAITING = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}


class Trace(TorchDispatchMode):
    """Notes which iteration made each tensor, and which read it."""

    def __init__(self):
        super().__init__()
        self.iteration = 0
        self.made = weakref.WeakValueDictionary()  # id -> tensor
        self.born = {}  # id -> iteration
        self.reads = []  # (iteration that read, that made)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        tensors = [
            tensor
            for tensor in tree_leaves((args, kwargs))
            if isinstance(tensor, torch.Tensor)
        ]
        # (An index gives a shape that depends on numbers if it is a mask.)
        if WAITING & set(func.tags) and (
            func is not torch.ops.aten.index.Tensor
            or any(tensor.dtype == torch.bool for tensor in tensors[1:])
        ):
            for tensor in tensors:
                if self.made.get(id(tensor)) is tensor:
                    read = self.iteration, self.born[id(tensor)]
                    self.reads.append(read)
        outputs = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(outputs):
            if isinstance(tensor, torch.Tensor):
                self.made[id(tensor)] = tensor
                self.born[id(tensor)] = self.iteration
        return outputs


@HOOKS.register_module()
class Begin(Hook):
    """Traces iterations; the sampler between them works on the host."""

    priority = 'HIGHEST'
    trace = None

    def before_train(self, runner):
        Begin.trace = Trace()

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.trace.iteration = runner.iter + 1
        self.trace.__enter__()


@HOOKS.register_module()
class End(Hook):
    priority = 'LOWEST'

    def after_train_iter(self, runner, *args, **kwargs):
        Begin.trace.__exit__(None, None, None)


def traced(photos, work_dir, fused):
    """What was read of the same iteration, in a training of 12."""
    cfg = config(photos, work_dir, iters=12)
    cfg.default_hooks.logger.interval = 5
    cfg.default_hooks.checkpoint.interval = 8
    cfg.optim_wrapper.optimizer.fused = fused
    train(cfg, hooks=[dict(type='Begin'), dict(type='End')])
    reads = Begin.trace.reads
    # The losses are read, and with them the norms, of each iteration.
    assert {made for _, made in reads} == set(range(1, 13))
    return {read for read, made in reads if made == read} - {1}


def test_nothing_is_read_in_its_own_iteration(photos, tmp_path):
    """But where a log or a checkpoint is written (and once, in the first)."""
    assert traced(photos, tmp_path, fused=True) == {5, 8, 10, 12}


def test_the_trace_sees_a_wait(photos, tmp_path):
    """Optimisers that are not fused have to be told whether to step."""
    waits = traced(photos, tmp_path, fused=False)
    assert waits == set(range(2, 13))


class Copies(TorchDispatchMode):
    """Notes what is copied from one device to another, and how."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        outputs = func(*args, **(kwargs or {}))
        name = str(func)
        devices = {
            tensor.device.type
            for tensor in tree_leaves((args, kwargs, outputs))
            if isinstance(tensor, torch.Tensor) and tensor.ndim
        }
        if len(devices) > 1:
            blocking = not (kwargs or {}).get('non_blocking', False)
            self.found.append((name, blocking))
        return outputs


def step_on_a_gpu(options, preprocessor='PixelPreprocessor'):
    """A step on tensors that have shapes and devices, and no numbers.

    Whatever needs a number raises. Returns what was copied.
    """
    cfg = Config.fromfile(
        'configs/pretrain/saim_vit-mini-p4_1xb128-coslr-20e_cifar10.py'
    )
    cfg.merge_from_dict(options)
    cfg.model.data_preprocessor = {
        **cfg.data_preprocessor,
        'type': preprocessor,
    }
    torch.manual_seed(0)
    real = MODELS.build(cfg.model)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        model = real.to('cuda')
        model.data_preprocessor._device = torch.device('cuda')
        model.order_checked = True
        wrapper = build_optim_wrapper(
            model, {**cfg.optim_wrapper, 'type': 'OptimWrapper'}
        )
        runner = type('Runner', (), dict(optim_wrapper=wrapper, model=model))
        NonFiniteHook().before_train(runner)
        images = mode.from_tensor(torch.zeros(4, 3, 32, 32, dtype=torch.uint8))
        with Copies() as copies:
            for _ in range(2):
                # (Gradients of devices that are not there cannot be computed.)
                data = model.data_preprocessor(
                    dict(inputs=images, data_samples=None), True
                )
                model(**data, mode='loss')
                for parameter in model.parameters():
                    if parameter.requires_grad:
                        parameter.grad = torch.empty_like(parameter)
                wrapper.step()
    return copies.found


@pytest.mark.parametrize(
    'options',
    [
        {},
        {'model.order': 'raster'},
        {'model.segment_size': 2},
        {'model.prefix': 'random'},
        {'model.prefix': 0.5, 'model.neck.widen_factor': 0.5},
        {'model.order': dict(_delete_=True, type='SemanticOrder')},
        {'data_preprocessor.random_crop': {}},
    ],
    ids=str,
)
def test_every_copy_goes_on_beside_the_host(options):
    copies = step_on_a_gpu(options)
    assert len(copies) >= 2 * 2  # the images, and what orders are made of
    assert not any(blocking for _, blocking in copies), copies


def test_a_preprocessor_that_waits():
    """mmpretrain's, which copies the images and an index."""
    copies = step_on_a_gpu({}, 'SelfSupDataPreprocessor')
    assert sum(blocking for _, blocking in copies) >= 2 * 2


def test_deferred_scalars():
    scalars = DeferredScalars()
    for number in range(4):
        scalars.put(dict(loss=torch.tensor(number / 2), lr=number), number)
    first = list(scalars.take(keep=1))
    assert [note for _, note in first] == [0, 1, 2]
    assert first[1] == (dict(loss=0.5, lr=1), 1)
    assert list(scalars.take(keep=1)) == []
    assert list(scalars.take()) == [(dict(loss=1.5, lr=3), 3)]
