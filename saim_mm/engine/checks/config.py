"""A look at a config's numbers before anything is built from it."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mmengine.registry import OPTIM_WRAPPERS, OPTIMIZERS, Registry

from ...utils.check import check_arg


def is_whole(value: Any) -> bool:
    """Whether a value is an integer, 1e5 too; True and False are none."""
    if isinstance(value, float):
        return value.is_integer()
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
    )


POSITIVE = (lambda x: is_whole(x) and x > 0), 'a positive integer'


NOT_NEGATIVE = (lambda x: is_whole(x) and x >= 0), 'an integer, 0 or more'


RATE = (lambda x: is_number(x) and x >= 0), 'a finite number, 0 or more'


#: Field -> (what is right, in words). Of MMEngine's own fields, whose errors
#: come late or do not name them.
RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    'train_dataloader.batch_size': POSITIVE,
    'val_dataloader.batch_size': POSITIVE,
    'train_dataloader.num_workers': NOT_NEGATIVE,
    'val_dataloader.num_workers': NOT_NEGATIVE,
    'train_cfg.max_epochs': POSITIVE,
    'train_cfg.max_iters': POSITIVE,
    'train_cfg.val_interval': POSITIVE,
    'optim_wrapper.optimizer.lr': RATE,
    'optim_wrapper.optimizer.weight_decay': RATE,
    'optim_wrapper.accumulative_counts': POSITIVE,
    'auto_scale_lr.base_batch_size': POSITIVE,
    'default_hooks.checkpoint.interval': (
        lambda x: is_whole(x) and (x > 0 or x == -1),
        'a positive integer, or -1 for none',
    ),
    'default_hooks.checkpoint.max_keep_ckpts': (
        lambda x: is_whole(x) and (x > 0 or x == -1),
        'a positive integer, or -1 for all',
    ),
    'default_hooks.logger.interval': POSITIVE,
    'randomness.seed': (
        lambda x: x is None or (is_whole(x) and 0 <= x < 2**32),
        'an integer, 0 to 2**32 - 1, or None',
    ),
    'resume': (lambda x: isinstance(x, bool), 'True or False'),
    'fsdp': (lambda x: isinstance(x, bool), 'True or False'),
    'work_dir': (
        lambda x: isinstance(x, str) and len(x) > 0,
        'the path of a folder',
    ),
}


#: Fields that name a class, and the registry that knows it.
NAMES: dict[str, Registry] = {
    'optim_wrapper.type': OPTIM_WRAPPERS,
    'optim_wrapper.optimizer.type': OPTIMIZERS,
}


def check_config(cfg: Mapping) -> None:
    """Refuse a config with numbers that cannot be.

    Args:
        cfg (Mapping): The config. What it lacks is not looked at.

    Raises:
        ValueError: Naming the field and its value.
    """
    for field, (is_right, words) in RULES.items():
        for value in look_up(cfg, field):
            check_arg(is_right(value), field, value, words)
    for field, registry in NAMES.items():
        scope = cfg.get('default_scope')
        with registry.switch_scope_and_registry(scope) as scoped:
            for value in look_up(cfg, field):
                check_arg(
                    isinstance(value, type)
                    or (isinstance(value, str) and scoped.get(value)),
                    field,
                    value,
                    f'registered in {scope} or MMEngine (or in a module that '
                    'custom_imports names)',
                )
    for name in ('min_lr', 'eta_min', 'begin', 'T_max', 'end'):
        for number, scheduler in enumerate(schedulers(cfg)):
            value = scheduler.get(name)
            if value is not None:
                # A warm-up may end within the first epoch.
                ends = name in ('T_max', 'end')
                check_arg(
                    is_number(value)
                    and (value > 0 or value == 0 and not ends),
                    f'param_scheduler[{number}].{name}',
                    value,
                    f'a finite number, {"above 0" if ends else "0 or more"}',
                )


def look_up(cfg: Mapping, field: str) -> Iterator[Any]:
    """The value of a field, or nothing if the config lacks it."""
    for part in field.split('.'):
        # MMEngine's Config is no Mapping.
        if not hasattr(cfg, 'get') or part not in cfg:
            return
        cfg = cfg[part]
    yield cfg


def schedulers(cfg: Mapping) -> list[Mapping]:
    """The schedulers of a config, which may be one or several."""
    found = cfg.get('param_scheduler') or []
    found = [found] if isinstance(found, Mapping) else found
    return [scheduler for scheduler in found if isinstance(scheduler, Mapping)]
