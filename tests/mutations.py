"""Wrong configs, and right ones, made of the configs by a seed.

A mutation changes one field. It is wrong by how it is made, but for numbers
and None, which a field may also mean: then MMEngine and the toolboxes are
asked. :func:`works` has them build what the config says and use what was
changed, and what they do without an error is no mistake.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import inspect
import random
import re
import tempfile
import textwrap
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

import mmengine.registry as engine
import numpy as np
import torch
from helpers import ROOT
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope, Registry
from mmengine.runner import Runner
from mmpretrain.structures import DataSample
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

#: Family -> its configs. A family is drawn first, so that the many ablations
#: do not hide the others.
FAMILIES = {
    name: sorted(
        str(path.relative_to(ROOT))
        for path in (ROOT / 'configs').glob(pattern)
    )
    for name, pattern in {
        'pretrain': 'pretrain/*.py',
        'ablations': 'pretrain/ablations/*.py',
        'baselines': 'pretrain/baselines/*.py',
        'light': 'pretrain/light/*.py',
        'beyond': 'pretrain/beyond/*.py',
        'classification': 'classification/*.py',
        'detection': 'detection/*.py',
        'segmentation': 'segmentation/*.py',
    }.items()
}
CONFIGS = sorted(sum(FAMILIES.values(), []))

KINDS = (
    'renamed',  # a key misspelled in the file
    'beside',  # a key misspelled in --cfg-options: it stands beside
    'type',
    'zero',
    'negative',
    'nan',
    'none',
    'huge',
    'word',
)
#: What a field may mean, and only its code says whether it may.
MAY_BE_MEANT = ('zero', 'negative', 'none', 'huge')

#: The names that MMEngine's Runner takes from the top of a config.
READ = set(
    re.findall(r"cfg(?:\.get\(|\[)'(\w+)'", inspect.getsource(Runner.from_cfg))
)


class Mutation(NamedTuple):
    """A wrong config and what is wrong with it."""

    kind: str
    path: tuple  #: Keys and numbers.
    value: Any
    config: str
    cfg: Config
    right: Config  #: It was made of this.

    def __str__(self) -> str:
        path = '.'.join(map(str, self.path))
        return f'{self.kind}: {path}={self.value!r} in {self.config}'


def plain(value: Any) -> Any:
    """A value without what its parts share with others."""
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(v) for v in value)
    return value


def copy(cfg: Config, values: dict) -> Config:
    """A config of other values, read from the same file."""
    return Config(values, cfg_text=cfg.text, filename=cfg.filename)


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def at(node: Any, path: tuple) -> Any:
    for key in path:
        node = node[key]
    return node


def fields(node: Any, path: tuple = ()) -> Iterator[tuple]:
    """The path of each key at any depth."""
    items = ()
    if isinstance(node, dict):
        items = node.items()
    elif isinstance(node, (list, tuple)):
        items = enumerate(node)
    for key, value in items:
        if isinstance(key, str) and key != '_scope_':
            yield (*path, key)
        yield from fields(value, (*path, key))


def slip(word: str, rng: random.Random) -> str:
    """A word with a slip of the fingers."""
    place = rng.randrange(len(word))
    before, letter, after = word[:place], word[place], word[place + 1 :]
    return rng.choice(
        (
            before + after,
            before + 2 * letter + after,
            before + rng.choice('etaoinshr') + after,
            before + after[:1] + letter + after[1:],
        )
    )


def wrong_value(kind: str, value: Any, rng: random.Random) -> Any:
    """A value of a kind in place of a right one; ... if there is none."""
    if kind == 'none':
        return ... if value is None else None
    if kind == 'type':
        if value is None:
            return ...  # which types are right nobody can tell
        if isinstance(value, bool):
            return rng.choice(('no', 'yes', 3))
        if isinstance(value, str):
            return rng.choice((3, True, ['a', 3], 0.5))
        if isinstance(value, dict):
            return rng.choice(('nonesuch', 3, True))
        wrong = rng.choice(('nonesuch', True, {'a': 1}, ['a']))
        words = isinstance(value, (list, tuple)) and any(
            isinstance(v, str) for v in value
        )
        return ... if wrong == ['a'] and words else wrong
    if isinstance(value, (list, tuple)):
        if not value or not all(map(is_number, value)):
            return ...
        place = rng.randrange(len(value))
        wrong = wrong_value(kind, value[place], rng)
        if wrong is ...:
            return ...
        return type(value)((*value[:place], wrong, *value[place + 1 :]))
    if kind == 'word':
        if not isinstance(value, str) or not value:
            return ...
        return rng.choice((slip(value, rng), 'nonesuch'))
    if not is_number(value):
        return ...
    if kind == 'zero':
        return type(value)(0)
    if kind == 'negative':
        return -value if value > 0 else -1
    if kind == 'nan':
        return float('nan')
    return 10**9 if isinstance(value, int) else 1e12


def is_word(node: dict, key: str, values: dict) -> bool:
    """Whether a text is one of the words that code knows.

    Any other text may be a path, or a prefix of names in a file; and a name
    is what anybody calls a thing.
    """
    value = node[key]
    if key == 'name':
        return False
    if key == 'type' or not isinstance(value, str):
        return True
    cls = class_of(node, values)
    if cls is None:
        return re.fullmatch(r'\w+', value) is not None
    return value in words_of(cls)


@functools.cache
def words_of(cls: type) -> set[str]:
    """The texts in the code of a class, but for its docstrings."""
    found = set()
    for c in cls.__mro__[:-1]:
        if c.__module__ == 'builtins':
            continue
        tree = ast.parse(textwrap.dedent(inspect.getsource(c)))
        docstrings = [n.value for n in ast.walk(tree) if type(n) is ast.Expr]
        found |= {
            n.value
            for n in ast.walk(tree)
            if isinstance(n, ast.Constant) and n not in docstrings
            if isinstance(n.value, str)
        }
    return found


def class_of(node: dict, values: dict) -> type | None:
    """The class that a dict names."""
    if not isinstance(node.get('type'), str):
        return None
    for registry in vars(engine).values():
        if isinstance(registry, Registry):
            scope = values.get('default_scope', 'mmengine')
            with registry.switch_scope_and_registry(scope) as scoped:
                found = scoped.get(node['type'])
            if inspect.isclass(found):
                return found
    return None


class Draws:
    """Configs by a seed.

    Args:
        seed: What is drawn follows from it.
        number: Of configs of each family; None: all.
    """

    def __init__(self, seed: int, number: int | None = None) -> None:
        self.rng = random.Random(seed)
        self.families = [
            self.rng.sample(names, min(len(names), number or len(names)))
            for names in FAMILIES.values()
        ]
        self.configs: dict[str, Config] = {}

    def read(self) -> tuple[str, dict]:
        """Draw a config; its name, and its values, to be changed."""
        name = self.rng.choice(self.rng.choice(self.families))
        if name not in self.configs:
            self.configs[name] = Config.fromfile(name)
        return name, plain(self.configs[name]._cfg_dict.to_dict())


def mutate(draws: Draws) -> Mutation:
    """A wrong config."""
    rng = draws.rng
    while True:
        name, values = draws.read()
        kind = rng.choice(KINDS)
        path = rng.choice(list(fields(values)))
        node, key = at(values, path[:-1]), path[-1]
        right = node[key]
        cfg = draws.configs[name]
        if kind in ('renamed', 'beside'):
            new = slip(key, rng)
            if new in node or not new or key == 'type':
                continue
            node[new] = plain(right)
            if kind == 'renamed':
                if len(path) == 1 and key not in READ:
                    continue  # Python says so
                del node[key]
            path = (*path[:-1], new)
        else:
            if kind == 'word' and not is_word(node, key, values):
                continue
            node[key] = wrong_value(kind, right, rng)
            if node[key] is ... or node[key] == right:
                continue
        wrong = copy(cfg, values)
        if kind == 'renamed' and len(path) == 1:
            wrong = Config(values)  # as if the file had it so
        return Mutation(kind, path, node[path[-1]], name, wrong, cfg)


def is_named(mutation: Mutation, error: str) -> bool:
    """Whether an error names the field of a mutation, and its value."""
    names = [key for key in mutation.path if isinstance(key, str)]
    if f'{names[0]}=' in error and 'is a variable' in error:
        return True
    return names[-1] in error and repr(mutation.value)[:40] in error


# ------------------------------------------------- what still is a right one


def works(mutation: Mutation) -> bool:
    """Whether the toolboxes do what a config says, after a mutation."""
    number = mutation.kind == 'type' and is_number(mutation.value)
    if mutation.kind not in MAY_BE_MEANT and not (
        # What is built and used says so: there may be both words and numbers.
        number and mutation.path[0] == 'model'
    ):
        return False
    with DefaultScope.overwrite_default_scope(mutation.cfg.default_scope):
        try:
            try_out(mutation.right, mutation.path)
        except Exception:
            return False  # then it says nothing of the mutation
        try:
            try_out(mutation.cfg, mutation.path)
        except Exception:
            return False
    return True


class Nothing(Dataset):
    """Stands for the images, which are not here."""

    metainfo = {'classes': ('a', 'b')}

    def __len__(self):
        return 10**6

    def __getitem__(self, index):
        return index


def try_out(cfg: Config, path: tuple) -> None:
    """Build a config, and use the part that a path names."""
    cfg = Config(plain(cfg._cfg_dict.to_dict()))
    cfg.work_dir = tempfile.gettempdir()
    cfg.experiment_name = uuid.uuid4().hex
    if cfg.get('visualizer'):
        cfg.visualizer.update(name=cfg.experiment_name, vis_backends=None)
    cfg.default_hooks = {
        name: hook
        for name, hook in (cfg.get('default_hooks') or {}).items()
        if (hook or {}).get('type') != 'LoggerHook'
    }
    cfg.launcher, cfg.load_from, cfg.resume = 'none', None, False
    cfg.get('optim_wrapper').type = 'OptimWrapper'  # float16 needs a GPU
    cfg.optim_wrapper.pop('dtype', None)
    cfg.optim_wrapper.optimizer.pop('fused', None)
    if cfg.get('data_preprocessor'):  # as MMEngine's Runner does
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    with torch.device('meta'):
        model = engine.MODELS.build(cfg.model)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    runner = Runner.from_cfg(
        Config({**cfg._cfg_dict, 'model': nn.Linear(1, 1)})
    )
    schedulers = cfg.get('param_scheduler') or []
    for scheduler in (
        [schedulers] if isinstance(schedulers, dict) else schedulers
    ):
        scheduler.pop('convert_to_iter_based', None)
        engine.PARAM_SCHEDULERS.build(
            scheduler, default_args=dict(optimizer=optimizer)
        ).step()
    part, *rest = path
    if part.endswith('_dataloader') and cfg.get(part):
        Runner.build_dataloader({**cfg[part], 'dataset': Nothing()}, seed=0)
        if rest and rest[0] == 'dataset':
            engine.DATASETS.build({**cfg[part].dataset, 'lazy_init': True})
        if 'pipeline' in rest:
            place = path.index('pipeline') + 2
            transform = engine.TRANSFORMS.build(at(cfg, path[:place]))
            zero = getattr(transform, 'reduce_zero_label', False) or False
            transform({**an_image(), 'reduce_zero_label': zero})
    if part.endswith('_evaluator'):
        with contextlib.suppress(FileNotFoundError):  # as the data
            runner.build_evaluator(cfg[part])
    if part == 'train_cfg':
        by_epoch = cfg.train_cfg.pop('by_epoch', True)
        kind = f'{"Epoch" if by_epoch else "Iter"}BasedTrainLoop'
        loader = DataLoader(Nothing(), batch_size=4)
        engine.LOOPS.build(
            {'type': kind, **cfg.train_cfg},
            default_args=dict(runner=runner, dataloader=loader),
        )
    used = part in ('model', 'data_preprocessor')
    if used and cfg.default_scope == 'mmpretrain':
        model = engine.MODELS.build(cfg.model)
        size = cfg.model.backbone.get('img_size', 224)
        size = (size, size) if is_number(size) else size
        images = torch.rand(2, 3, *size)
        two_views = 'MoCo' in cfg.model.type
        data = model.data_preprocessor(
            dict(
                inputs=[images, images] if two_views else images,
                data_samples=[sample(cfg.model, size) for _ in images],
            ),
            True,
        )
        model(**data, mode='loss')


def sample(model: dict, size: tuple) -> DataSample:
    """What comes with an image: its class, and a mask of its patches."""
    patch = model.backbone.get('patch_size', 16)
    mask = torch.ones(size[0] // patch, size[1] // patch)
    return DataSample().set_gt_label(0).set_mask(mask)


@functools.cache
def a_file() -> str:
    """An image file, or a map of labels."""
    path = f'{tempfile.mkdtemp()}/image.png'
    Image.new('L', (64, 64), 1).save(path)
    return path


def an_image() -> dict:
    """What transforms get."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return dict(
        img=image,
        img_path=a_file(),
        seg_map_path=a_file(),
        label_map=None,
        img_shape=(64, 64),
        ori_shape=(64, 64),
        gt_seg_map=image[..., 0] % 3,
        seg_fields=['gt_seg_map'],
    )


# ------------------------------------------------------------ right variations


def read_fields(values: dict) -> list[tuple]:
    """The fields that are no variables, of which fields were made."""
    read = READ
    if values['model'].get('data_preprocessor'):
        read = read - {'data_preprocessor'}
    return [path for path in fields(values) if path[0] in read]


def classes(values: dict) -> Iterator[tuple[dict, type]]:
    """The dicts of a config that name a class, and the class."""
    for path in read_fields(values):
        node = at(values, path)
        if isinstance(node, dict) and (found := class_of(node, values)):
            yield node, found


def say_default(values: dict, rng: random.Random) -> None:
    """Give an argument the value that it has anyway."""
    node, cls = rng.choice(list(classes(values)))
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(cls).parameters.items()
        if parameter.default is not parameter.empty and name not in node
    }
    if defaults:
        name = rng.choice(sorted(defaults))
        node[name] = plain(defaults[name])


def say_class(values: dict, rng: random.Random) -> None:
    """Name a class by itself, as configs of Python's imports do."""
    node, cls = rng.choice(list(classes(values)))
    node['type'] = cls


def other_sequence(values: dict, rng: random.Random) -> None:
    """A list for a tuple, or a tuple for a list, of numbers."""
    paths = [
        path
        for path in read_fields(values)
        if isinstance(at(values, path), (list, tuple))
        and all(map(is_number, at(values, path)))
    ]
    if paths:
        node, key = at(values, (path := rng.choice(paths))[:-1]), path[-1]
        other = list if isinstance(node[key], tuple) else tuple
        node[key] = other(node[key])


def other_setting(values: dict, rng: random.Random) -> None:
    """What users change."""
    loader = values['train_dataloader']
    optimizer = values['optim_wrapper']['optimizer']
    hooks = values['default_hooks']
    length = 'max_epochs'
    if length not in values['train_cfg']:
        length = 'max_iters'
    rng.choice(
        (
            lambda: optimizer.update(lr=10 ** rng.uniform(-6, 1)),
            lambda: optimizer.update(weight_decay=rng.choice((0, 0.3, 1e-8))),
            lambda: values['optim_wrapper'].update(
                optimizer=dict(type='SGD', lr=0.1, momentum=0.9, nesterov=True)
            ),
            lambda: values['optim_wrapper'].update(
                clip_grad=dict(max_norm=rng.choice((1, 0.5)), norm_type=2),
                accumulative_counts=rng.choice((1, 4)),
            ),
            lambda: loader.update(
                batch_size=rng.randint(1, 4096),
                num_workers=rng.randint(1, 16),
            ),
            lambda: loader.update(
                num_workers=0, persistent_workers=False, pin_memory=False
            ),
            lambda: values['train_cfg'].update(
                {length: 100_000, 'val_interval': rng.randint(1, 50)}
            ),
            lambda: hooks['checkpoint'].update(
                interval=rng.randint(1, 10), max_keep_ckpts=rng.randint(1, 9)
            ),
            lambda: hooks['logger'].update(interval=rng.randint(1, 1000)),
            lambda: hooks.update(timer=None),
            lambda: values.update(
                randomness=dict(seed=rng.randrange(2**32), deterministic=True)
            ),
            lambda: values.update(
                custom_hooks=[
                    dict(type='EMAHook', momentum=1e-3, priority='NORMAL'),
                    dict(type='EmptyCacheHook', after_epoch=True),
                ]
            ),
            lambda: values.update(
                _notes='mine', work_dir='/tmp/ä work', resume=True
            ),
            lambda: values.update(
                visualizer=dict(
                    type='Visualizer',
                    vis_backends=[dict(type='TensorboardVisBackend')],
                )
            ),
            lambda: values.update(compile=dict(mode='reduce-overhead')),
            lambda: values.update(auto_scale_lr=dict(base_batch_size=256)),
            lambda: values.update(log_level='DEBUG', load_from=None),
            lambda: values.update(
                param_scheduler=dict(type='MultiStepLR', milestones=[8, 11])
            ),
            lambda: values.update(
                env_cfg=dict(
                    cudnn_benchmark=True,
                    mp_cfg=dict(mp_start_method='spawn', opencv_num_threads=2),
                    dist_cfg=dict(backend='gloo'),
                )
            ),
        )
    )()


CHANGES = (say_default, say_class, other_sequence, other_setting)


def vary(draws: Draws) -> tuple[str, Config]:
    """A right config: what was drawn, with up to four changes."""
    rng = draws.rng
    name, values = draws.read()
    for _ in range(rng.randint(1, 4)):
        change = rng.choice(CHANGES)
        change(values, rng)
    return name, copy(draws.configs[name], values)
