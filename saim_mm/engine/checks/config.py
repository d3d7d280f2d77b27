"""A look at a whole config before anything is built from it."""

from __future__ import annotations

import inspect
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import mmengine.registry as engine
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import Registry
from mmpretrain.models.backbones import VisionTransformer
from torch import nn

from ...utils.check import ConfigError
from .fields import (
    ARCH,
    DEFAULT_TYPES,
    EITHER,
    FREE,
    MORE,
    NEEDED,
    OF_CUSTOM_KEY,
    OF_MODELS,
    OPAQUE,
    OPEN,
    PAIRS,
    PLAIN_TYPES,
    TOOLBOXES,
    TOP,
    TYPED,
    VALUES,
    Fields,
)
from .names import check_names, read_by_runner
from .relations import check_layers, check_relations, schedulers
from .schema import (
    MISSING,
    PASSED_ON,
    REGISTRIES,
    TOP_REGISTRIES,
    arguments,
    find,
    is_misspelled,
    is_scope,
    names_in,
    nearest,
)
from .values import check_value, is_number, leaves, refuse

__all__ = ['check_config', 'inspect_config', 'schedulers']


def check_config(cfg: Mapping) -> None:
    """Refuse a config with a field that nothing reads, or that cannot work.

    What fields there are is read from the signatures of the classes that
    the config names, so it holds for every toolbox and for a user's own
    classes. ``check_config = False`` in the config leaves the look out. If
    the look itself fails there is a warning, and training goes on.

    Raises:
        ConfigError: A ValueError, naming the field, its value, and what
            would be right.
    """
    try:
        inspect_config(cfg)
    except ConfigError:
        raise
    except Exception as error:
        warnings.warn(
            f'the config could not be checked: {error!r}. That is a fault of '
            'saim_mm, please report it; check_config=False leaves it out',
            stacklevel=2,
        )


def inspect_config(cfg: Mapping) -> None:
    """What :func:`check_config` does, whose own faults are errors."""
    wanted = cfg.get('check_config', True)
    check_value('check_config', wanted, bool, MISSING)
    if not wanted:
        return
    scope = cfg.get('default_scope', 'mmengine')
    check_scope('default_scope', scope)
    for name in TOP.keys() & cfg.keys():
        check_value(name, cfg[name], *TOP[name])
    check_names(cfg)
    runner = cfg.get('runner_type', 'Runner')
    check_type('runner_type', runner, (engine.RUNNERS,), scope)
    for name, value in cfg.items():
        if name in read_by_runner(cfg):
            registries = TOP_REGISTRIES.get(name, ())
            check_node(value, Place(cfg, name, name, registries, scope))
    check_imports(cfg.get('custom_imports') or {})
    check_relations(cfg)


@dataclass(frozen=True)
class Place:
    """Where in a config a look is taken."""

    cfg: Mapping
    path: str  #: As in --cfg-options.
    name: str  #: The last name in it.
    registries: tuple[Registry, ...]  #: Where its ``type`` may be registered.
    scope: str  #: The toolbox.
    owner: type | None = None  #: The class whose argument it is.
    free: Fields | None = None  #: What a dict of no class holds here.


def check_node(node: Any, place: Place) -> None:
    """Check the dicts in a value."""
    owner = getattr(place.owner, '__name__', '')
    if {place.name, f'{owner}.{place.name}'} & OPAQUE:
        return
    if isinstance(node, Mapping):
        check_dict(node, place)
    elif isinstance(node, (list, tuple)):
        for number, item in enumerate(node):
            check_node(item, replace(place, path=f'{place.path}.{number}'))


def check_dict(node: Mapping, place: Place) -> None:
    """Check the keys of a dict, their values, and the dicts in these."""
    if '_scope_' in node:
        check_scope(f'{place.path}._scope_', node['_scope_'])
        place = replace(place, scope=node['_scope_'])
    cls = class_of(node, place)
    known, strict = fields_of(node, cls, place)
    free = None if cls else place.free
    if place.name == 'custom_keys':
        free = {**OF_CUSTOM_KEY, **arguments(optimizer_of(place))[0]}
    fields = {k: v for k, v in node.items() if k not in ('type', '_scope_')}
    for key, value in fields.items():
        parts = key.split('.') if place.name == 'custom_keys' else [key]
        for part in parts:
            if part not in known and (strict or is_misspelled(part, known)):
                refuse(
                    f'{place.path}.{key}',
                    value,
                    'there is no such field'
                    + (
                        suggestion(part, known)
                        or f'; there are {sorted(known)}'
                    ),
                )
    check_together(node, cls, place)
    for key, value in fields.items():
        field = f'{place.path}.{key}'
        hint, default = known.get(key, (MISSING, None))
        if hint is MISSING and place.name in VALUES:
            hint, default = VALUES[place.name], MISSING
        check_value(field, value, hint, default, cls or place.name)
        check_named(field, value, cls, place.scope)
        below = Place(
            place.cfg,
            field,
            'default_hook' if place.path == 'default_hooks' else key,
            REGISTRIES.get(key, place.registries),
            place.scope,
            cls,
            free,
        )
        if key in ('train_cfg', 'test_cfg') and cls:
            toolbox = cls.__module__.partition('.')[0]
            below = replace(below, free=OF_MODELS.get(toolbox, {}))
        check_node(value, below)


def check_together(node: Mapping, cls: type | None, place: Place) -> None:
    """Refuse fields of a dict that do not go without each other."""
    for name, other in PAIRS:
        if name in node and node[name] is None and node.get(other) is not None:
            refuse(f'{place.path}.{name}', None, f'must be as {other} is')
    name = getattr(cls, '__name__', '')
    for one, other in [EITHER[name]] if name in EITHER else ():
        # (At the top it is a variable of the toolboxes' configs.)
        if '.' in place.path and node.get(one) is node.get(other) is None:
            refuse(f'{place.path}.{one}', None, f'set it, or {other}')
    for part in NEEDED if place.path == 'model' and cls else ():
        if part in node and node[part] is None:
            source = inspect.getsource(cls)
            if f'self.{part}(' in source or f'self.{part}.' in source:
                if f'with_{part}' not in source:  # it would ask
                    refuse(f'model.{part}', None, f'{cls.__name__} needs one')
    if place.path == 'model' and place.scope in ('mmdet', 'mmseg'):
        if node.get('data_preprocessor', ()) is None:
            refuse('model.data_preprocessor', None, 'must be given')
    if place.path.startswith('model.') and node.get('rpn', ()) is None:
        if 'anchor_generator' in (place.cfg['model'].get('rpn_head') or {}):
            refuse(f'{place.path}.rpn', None, 'must be given for rpn_head')
    classes = node.get('classes') if place.name == 'metainfo' else None
    if isinstance(classes, str) and not Path(classes).is_file():
        refuse(
            f'{place.path}.classes',
            classes,
            'must be a list of names, or a file with one in each line',
        )
    if name == 'AnchorGenerator':
        for field in ('ratios', 'strides'):
            if node.get(field, ()) is None:
                refuse(f'{place.path}.{field}', None, 'must be given')
    check_layers(node, cls, f'{place.path}.out_indices')
    if name == 'ColorJitter' and is_number(node.get('hue')):
        if node['hue'] < 0:
            refuse(f'{place.path}.hue', node['hue'], 'must be in [0, 0.5]')
    if name == 'RandomResize' and node.get('ratio_range') is None:
        scale = node.get('scale')
        if is_number(scale) or all(map(is_number, scale or ())):
            refuse(
                f'{place.path}.ratio_range',
                None,
                f'must be given with one scale={scale!r}',
            )
    if place.path == 'optim_wrapper' and node.get('paramwise_cfg') is None:
        constructor = constructor_of(place)
        if 'layer_decay_rate' in fields_of_constructor(constructor):
            refuse(
                f'{place.path}.paramwise_cfg',
                None,
                f'set layer_decay_rate in it, for {constructor.__name__}',
            )


def class_of(node: Mapping, place: Place) -> type | None:
    """The class that a dict is built with; None if it is free."""
    kind = node.get('type', DEFAULT_TYPES.get(place.path))
    if 'type' in node and not (isinstance(kind, str) or callable(kind)):
        refuse(f'{place.path}.type', kind, 'must be the name of a class')
    if place.name in PLAIN_TYPES:
        kinds = PLAIN_TYPES[place.name]
        if isinstance(kind, str) and kind not in kinds:
            refuse(f'{place.path}.type', kind, f'must be one of {kinds}')
        return None
    if place.path == 'train_cfg' and kind is None:
        by_epoch = node.get('by_epoch', True)
        check_value('train_cfg.by_epoch', by_epoch, bool, MISSING)
        kind = f'{"Epoch" if by_epoch else "Iter"}BasedTrainLoop'
    if kind is None and place.name == 'default_hook':
        refuse(
            place.path,
            dict(node),
            'must have a type; MMEngine has no hook of that name'
            + suggestion(place.path.split('.')[1], OPEN['default_hooks']),
        )
    is_free = TYPED.isdisjoint({place.name, place.path})
    if kind is None and not is_free and 'checkpoint' not in node:
        refuse(place.path, dict(node), 'must have a type, its class')
    if kind is None or not place.registries:
        return None
    field = f'{place.path}.type'
    return check_type(field, kind, place.registries, place.scope)


def check_type(
    field: str, name: Any, registries: tuple[Registry, ...], scope: str
) -> type:
    """Refuse a name that no registry has; return what it names."""
    found = find(name, registries, scope)
    if found is None:
        known = set(names_in(registries, scope))
        kinds = ' or '.join(registry.name for registry in registries)
        refuse(
            field,
            name,
            f'must be the name of a {kinds} of {scope} or MMEngine, or be '
            'registered by a module that custom_imports names'
            + suggestion(name, known),
        )
    return found


def check_named(
    field: str, value: Any, owner: type | None, scope: str
) -> None:
    """Refuse names of classes outside ``type`` that there are not."""
    name = field.rsplit('.', 1)[-1]
    if f'{getattr(owner, "__name__", "")}.{name}' == 'SAIM.order':
        if isinstance(value, str):
            check_type(field, value, TOP_REGISTRIES['model'], scope)
    if name == 'layer':
        known = {cls.__name__ for cls in subclasses(nn.Module)}
        for word in set(leaves(value)) - known:
            refuse(
                field,
                value,
                f'there is no layer {word!r}' + suggestion(word, known),
            )


def subclasses(cls: type) -> Iterator[type]:
    """All that are derived from a class, as far as they are imported."""
    for other in cls.__subclasses__():
        yield other
        yield from subclasses(other)


def fields_of(
    node: Mapping, cls: type | None, place: Place
) -> tuple[Fields, bool]:
    """What a dict may hold, and whether that is all."""
    more = MORE.get(place.name, {})
    if cls is not None:
        known, others = arguments(cls)
        if getattr(cls, '__name__', '') in PASSED_ON:
            argument = PASSED_ON[cls.__name__]
            name = node.get(argument, known[argument][1])
            to = find(name, (*place.registries, engine.MODELS), place.scope)
            if to is not None:
                passed, others = arguments(to)
                known = {**passed, **known}
        if place.path == 'optim_wrapper':
            others |= not issubclass(
                constructor_of(place), DefaultOptimWrapperConstructor
            )
        # A model may take such dicts apart before it builds from them.
        taken_apart = place.path.startswith('model.') and (
            place.name.endswith('_cfg') or place.name == 'dcn'
        )
        return {**known, **more}, not others and not taken_apart
    if place.name == 'paramwise_cfg':
        constructor = constructor_of(place)
        known = fields_of_constructor(constructor)
        return known, constructor.__module__.startswith(TOOLBOXES)
    if place.name == 'arch':
        if inspect.isclass(place.owner) and issubclass(
            place.owner, VisionTransformer
        ):
            return ARCH, True
        return {}, False
    if place.name in FREE:
        return FREE[place.name], True
    return {**(place.free or OPEN.get(place.name, {})), **more}, False


def constructor_of(place: Place) -> type:
    """The class that builds the optimiser, with its parameter groups."""
    field = 'optim_wrapper.constructor'
    wrapper = place.cfg.get('optim_wrapper') or {}
    name = wrapper.get('constructor', 'DefaultOptimWrapperConstructor')
    registries = (engine.OPTIM_WRAPPER_CONSTRUCTORS,)
    return check_type(field, name, registries, place.scope)


def optimizer_of(place: Place) -> Any:
    """The class of the optimiser."""
    optimizer = (place.cfg.get('optim_wrapper') or {}).get('optimizer') or {}
    return find(optimizer.get('type'), (engine.OPTIMIZERS,), place.scope)


def fields_of_constructor(constructor: type) -> Fields:
    """What ``paramwise_cfg`` may hold: what the constructor looks for."""
    source = ''.join(inspect.getsource(c) for c in constructor.__mro__[:-1])
    read = r"paramwise_cfg(?:\.get\(|\.pop\(|\[)\s*'(\w+)'"
    hints = {'custom_keys': dict, 'layer_decay_rate': float}
    return {
        name: (hints[name], MISSING) if name in hints else (MISSING, None)
        for name in re.findall(read, source)
    }


def check_scope(field: str, scope: Any) -> None:
    """Refuse a toolbox that is not there."""
    if not is_scope(scope):
        refuse(
            field,
            scope,
            'must be a toolbox that is installed: mmengine, mmpretrain, '
            'mmdet, mmseg ...' + suggestion(scope, TOOLBOXES),
        )


def check_imports(imports: Mapping) -> None:
    """Refuse modules that cannot be found."""
    names = imports.get('imports', ())
    for name in [names] if isinstance(names, str) else names:
        try:
            found = find_spec(name)
        except (ImportError, ValueError):
            found = None
        if found is None and not imports.get('allow_failed_imports', False):
            refuse(
                'custom_imports.imports',
                name,
                'must be a module that Python finds (PYTHONPATH)'
                + suggestion(name, ['saim_mm', *sys.modules]),
            )


def suggestion(name: Any, known: Iterable[str]) -> str:
    """Words for the end of an error, or none."""
    near = nearest(name, known) if isinstance(name, str) else None
    return f'; did you mean {near!r}?' if near else ''
