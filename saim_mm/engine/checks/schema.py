"""What a dict in a config may hold: the arguments of the class it names."""

from __future__ import annotations

import ast
import difflib
import importlib
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from os.path import commonprefix
from typing import Any, get_type_hints

import mmengine.registry as engine
from mmengine.registry import Registry
from mmpretrain.registry import BATCH_AUGMENTS

MISSING = inspect.Parameter.empty

MODEL = (engine.MODELS, engine.TASK_UTILS, BATCH_AUGMENTS)
DATA = (engine.DATASETS, engine.DATA_SAMPLERS, engine.FUNCTIONS)

#: Field at the top of a config -> where the ``type`` of its dicts may be
#: registered.
TOP_REGISTRIES: dict[str, tuple[Registry, ...]] = {
    'model': MODEL,
    'tta_model': MODEL,
    'data_preprocessor': MODEL,
    'train_dataloader': DATA,
    'val_dataloader': DATA,
    'test_dataloader': DATA,
    'tta_pipeline': (engine.TRANSFORMS,),
    'val_evaluator': (engine.EVALUATOR, engine.METRICS),
    'test_evaluator': (engine.EVALUATOR, engine.METRICS),
    'train_cfg': (engine.LOOPS,),
    'val_cfg': (engine.LOOPS,),
    'test_cfg': (engine.LOOPS,),
    'optim_wrapper': (engine.OPTIM_WRAPPERS,),
    'param_scheduler': (engine.PARAM_SCHEDULERS,),
    'default_hooks': (engine.HOOKS,),
    'custom_hooks': (engine.HOOKS, engine.TRANSFORMS, *MODEL),
    'log_processor': (engine.LOG_PROCESSORS,),
    'visualizer': (engine.VISUALIZERS,),
    'vis_backends': (engine.VISBACKENDS,),
    'model_wrapper_cfg': (engine.MODEL_WRAPPERS,),
}
#: The same for fields of dicts; others have their dict's.
REGISTRIES: dict[str, tuple[Registry, ...]] = {
    'init_cfg': (engine.WEIGHT_INITIALIZERS,),
    'dataset': (engine.DATASETS,),
    'datasets': (engine.DATASETS,),
    'pipeline': (engine.TRANSFORMS,),
    'optimizer': (engine.OPTIMIZERS,),
    'vis_backends': (engine.VISBACKENDS,),
}

#: Class -> the argument that names another, which gets the keys that this one
#: does not know.
PASSED_ON = {
    'RandomResize': 'resize_type',
    'RandomChoiceResize': 'resize_type',
    'EMAHook': 'ema_type',
}


def find(name: Any, registries: Iterable[Registry], scope: str) -> type | None:
    """What a ``type`` names.

    Args:
        name: A name, or the class itself.
        registries: MMEngine's, where it may be.
        scope: The toolbox whose own are looked through first.
    """
    if not isinstance(name, str):
        return name if callable(name) else None
    for registry in registries:
        try:
            found = scoped(registry, scope).get(name)
        except RuntimeError:  # there is none of that name
            continue
        if found is not None:
            return found
    return None


def scoped(registry: Registry, scope: str) -> Registry:
    """A toolbox's own registry, which goes on in MMEngine's."""
    return registry.children.get(scope, registry)


def names_in(registries: Iterable[Registry], scope: str) -> Iterator[str]:
    """The names that :func:`find` would find."""
    for registry in registries:
        yield from registry.module_dict
        if scope in registry.children:
            yield from registry.children[scope].module_dict


def is_scope(scope: Any) -> bool:
    """Whether a toolbox of that name is there and registers anything."""
    if not isinstance(scope, str):
        return False
    try:
        importlib.import_module(f'{scope}.registry')
    except ImportError:
        pass  # a project may register without such a module
    return scope == 'mmengine' or any(
        scope in registry.children
        for registry in vars(engine).values()
        if isinstance(registry, Registry)
    )


@cache
def arguments(cls: Any) -> tuple[dict[str, tuple[Any, Any]], bool]:
    """The arguments of a class or function.

    What a class takes as ``**kwargs`` are its parents' arguments.

    Returns:
        Name -> annotation and
        default, each ``MISSING`` where there is none; and whether it takes
        others too.
    """
    if not inspect.isclass(cls):
        steps = [cls]
    else:
        steps = [
            c.__dict__['__init__']
            for c in cls.__mro__[:-1]
            if '__init__' in c.__dict__
        ]
    found: dict[str, tuple[Any, Any]] = {}
    ends = False
    for step in steps:
        try:
            parameters = inspect.signature(step).parameters.values()
        except (TypeError, ValueError):
            return found, True
        try:
            hints = get_type_hints(step)
        except Exception:  # what an annotation names may not be importable
            hints = {}
        others = False
        for number, parameter in enumerate(parameters):
            if parameter.kind == parameter.VAR_KEYWORD:
                others = True
            elif parameter.kind != parameter.VAR_POSITIONAL and not (
                number == 0
                and (inspect.isclass(cls) or parameter.name == 'self')
            ):
                found.setdefault(
                    parameter.name,
                    (
                        hints.get(parameter.name, parameter.annotation),
                        parameter.default,
                    ),
                )
        if step is steps[0] and not others:
            return found, False
        if others and not ends and not passes_on(step):
            return found, True
        # Some classes hand theirs to a parent behind the next.
        ends |= not others
    return found, not ends


def passes_on(init: Callable) -> bool:
    """Whether ``__init__`` gives its ``**kwargs`` to a parent's."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(init)))
    except (OSError, TypeError, SyntaxError):
        return False
    return any(
        isinstance(node, ast.Call)
        and getattr(node.func, 'attr', '') == '__init__'
        and any(keyword.arg is None for keyword in node.keywords)
        for node in ast.walk(tree)
    )


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that a name looks like a misspelling of, if any."""
    # Short names are less alike after the same slip.
    alike = {1: 0.5, 2: 0.5, 3: 0.6}.get(len(name), 0.75)
    known = [k for k in known if k != name]
    return next(iter(difflib.get_close_matches(name, known, 1, alike)), None)


def is_misspelled(name: str, known: Iterable[str]) -> bool:
    """Whether a name that may be a user's own looks like a known one.

    It does after one slip: a letter more, less or another, or two in the
    wrong order; a long name after two. Another number is none.
    """
    near = difflib.get_close_matches(name, known, 1, 0.9)
    digits = re.compile(r'\d+')
    return any(
        digits.sub('', k) != digits.sub('', name)
        and not name.startswith(f'{k}_')
        and (k in near or is_slip(name, k))
        for k in known
    )


def is_slip(name: str, meant: str) -> bool:
    """Whether one slip of the fingers makes a name of another."""
    start = len(commonprefix([name, meant]))
    name, meant = name[start:][::-1], meant[start:][::-1]
    end = len(commonprefix([name, meant]))
    name, meant = name[end:], meant[end:]
    return max(len(name), len(meant)) <= 1 or (
        len(name) == 2 and name == meant[::-1]
    )
