"""Wrong configs, made of right ones by a seed."""

import random
from collections.abc import Iterator
from typing import Any, NamedTuple

from helpers import ROOT
from mmengine.config import Config

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


class Mutation(NamedTuple):
    """A wrong config and what is wrong with it."""

    kind: str
    path: str  #: As in --cfg-options.
    value: Any
    owner: str  #: The type of the dict that holds it.
    config: str
    cfg: Config

    def __str__(self) -> str:
        return f'{self.kind}: {self.path}={self.value!r} in {self.config}'


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
    if isinstance(value, (list, tuple)) and kind != 'type':
        if not value or not all(isinstance(v, (int, float)) for v in value):
            return None if kind == 'none' else ...
        place = rng.randrange(len(value))
        wrong = wrong_value(kind, value[place], rng)
        if wrong is ...:
            return ...
        return type(value)(
            wrong if number == place else v for number, v in enumerate(value)
        )
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind == 'type':
        if isinstance(value, bool):
            return rng.choice(('no', 'yes', 3, None))
        if isinstance(value, str):
            return rng.choice((3, True, ['a', 3], 0.5))
        if isinstance(value, dict):
            return rng.choice(('abc', 3, True))
        return rng.choice(('abc', True, {'a': 1}, ['a']))
    if kind == 'none':
        return None
    if kind == 'word':
        if not isinstance(value, str) or not value:
            return ...
        return rng.choice((slip(value, rng), 'nonesuch'))
    if not is_number:
        return ...
    if kind == 'zero':
        return type(value)(0)
    if kind == 'negative':
        return -value if value > 0 else -1
    if kind == 'nan':
        return float('nan')
    return 10**9 if isinstance(value, int) else 1e12


def mutate(rng: random.Random, configs: dict[str, Config]) -> Mutation:
    """A wrong config.

    Args:
        rng: What is drawn from.
        configs: Those that were read, by their path; more are added.
    """
    while True:
        name = rng.choice(FAMILIES[rng.choice(sorted(FAMILIES))])
        if name not in configs:
            configs[name] = Config.fromfile(name)
        values = plain(configs[name]._cfg_dict.to_dict())
        kind = rng.choice(KINDS)
        path = rng.choice(list(fields(values)))
        node = values
        for key in path[:-1]:
            node = node[key]
        key = path[-1]
        wrong = node[key]
        if kind in ('renamed', 'beside'):
            new = slip(key, rng)
            if new in node or not new or key == 'type':
                continue
            node[new] = plain(wrong)
            if kind == 'renamed':
                del node[key]
            path = (*path[:-1], new)
        else:
            wrong = wrong_value(kind, wrong, rng)
            if (
                wrong is ...
                or wrong == node[key]
                or (kind == 'none' and node[key] is None)
            ):
                continue
            node[key] = wrong
        return Mutation(
            kind,
            '.'.join(map(str, path)),
            wrong,
            str(node.get('type', '')) if isinstance(node, dict) else '',
            name,
            copy(configs[name], values),
        )
