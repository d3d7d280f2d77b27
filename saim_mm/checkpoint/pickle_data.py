"""Pickles read as data: no name in one is looked up, nothing is called.

A pickle is a program that may import and call whatever it names. Here the
standard library's disassembler, :func:`pickletools.genops`, takes it apart;
numbers, texts and containers are put together, and what the program would
import, call or fill stays a :class:`Name`, an :class:`Instance` or a
:class:`Reference`, which know what stood there and do nothing.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from .errors import FormatError

#: The modules of Python 2, whose names pickles of protocol 2 have.
PYTHON_2 = {'__builtin__': 'builtins', 'copy_reg': 'copyreg'}

#: Operations that put down what is written behind them.
LITERALS = {
    *('BININT', 'BININT1', 'BININT2', 'LONG1', 'BINFLOAT'),
    *('BINUNICODE', 'SHORT_BINUNICODE', 'BINUNICODE8'),
    *('BINSTRING', 'SHORT_BINSTRING'),
    *('BINBYTES', 'SHORT_BINBYTES', 'BINBYTES8'),
}

CONSTANTS = dict(NONE=None, NEWTRUE=True, NEWFALSE=False, EMPTY_TUPLE=())

TUPLES = dict(TUPLE1=1, TUPLE2=2, TUPLE3=3)

#: What a dict's key may be. (Python's hash of a deep tuple overflows.)
KEYS = (str, int, float, bool, type(None))


@dataclass(frozen=True, eq=False)
class Name:
    """What a pickle would import."""

    path: str  # 'module.name'


@dataclass(frozen=True, eq=False)
class Reference:
    """What is kept outside of the pickle: a storage of numbers."""

    id: Any


@dataclass(eq=False)
class Instance:
    """What a pickle would make by a call, and then fill."""

    path: str  # of what would be called
    args: tuple
    state: Any = None
    elements: list = field(default_factory=list)
    items: list[tuple] = field(default_factory=list)


class _Machine:
    """The stack, the marked stacks below it, and the memo."""

    def __init__(self) -> None:
        self.stack: list = []
        self.below: list[list] = []
        self.memo: dict[int, Any] = {}

    def run(self, file: BytesIO) -> Any:
        for opcode, argument, _ in pickletools.genops(file):
            name = opcode.name
            if name in LITERALS:
                self.stack.append(argument)
            elif name in CONSTANTS:
                self.stack.append(CONSTANTS[name])
            elif name in TUPLES:
                length = TUPLES[name]
                items = [self.stack.pop() for _ in range(length)]
                self.stack.append(tuple(reversed(items)))
            elif name == 'STOP':
                return self.stack.pop()
            elif name not in ('PROTO', 'FRAME'):
                act = getattr(self, f'do_{name.lower()}', None)
                if act is None:
                    raise FormatError(f'operation {name} in its pickle')
                act(argument)
        raise FormatError('its pickle has no end')

    def marked(self) -> list:
        """What was put down since the last mark."""
        items, self.stack = self.stack, self.below.pop()
        return items

    def do_mark(self, _: None) -> None:
        self.below.append(self.stack)
        self.stack = []

    def do_empty_list(self, _: None) -> None:
        self.stack.append([])

    def do_empty_dict(self, _: None) -> None:
        self.stack.append({})

    def do_tuple(self, _: None) -> None:
        items = tuple(self.marked())
        self.stack.append(items)

    def do_binput(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    do_long_binput = do_binput

    def do_memoize(self, _: None) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def do_binget(self, index: int) -> None:
        self.stack.append(self.memo[index])

    do_long_binget = do_binget

    def do_append(self, _: None) -> None:
        item = self.stack.pop()
        self._append([item])

    def do_appends(self, _: None) -> None:
        self._append(self.marked())

    do_additems = do_appends

    def do_empty_set(self, _: None) -> None:
        self.stack.append(Instance('builtins.set', ()))

    def do_frozenset(self, _: None) -> None:
        items = self.marked()
        self.stack.append(Instance('builtins.frozenset', (items,)))

    def _append(self, items: list) -> None:
        target = self.stack[-1]
        if type(target) is Instance:
            target.elements += items
        elif type(target) is list:
            target += items
        else:
            raise FormatError('its pickle appends to what is no list')

    def do_setitem(self, _: None) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def do_setitems(self, _: None) -> None:
        self._set(self.marked())

    def _set(self, flat: list) -> None:
        target = self.stack[-1]
        pairs = list(zip(flat[::2], flat[1::2], strict=True))
        if type(target) is Instance:
            target.items += pairs
        elif type(target) is dict:
            for key, value in pairs:
                if type(key) not in KEYS:
                    raise FormatError(f'a dict with a {type(key).__name__}')
                target[key] = value
        else:
            raise FormatError('its pickle sets items of what is no dict')

    def do_global(self, names: str) -> None:
        module, name = names.split(' ', 1)
        self._name(module, name)

    def do_stack_global(self, _: None) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if type(module) is not str or type(name) is not str:
            raise FormatError('its pickle imports what is no name')
        self._name(module, name)

    def _name(self, module: str, name: str) -> None:
        self.stack.append(Name(f'{PYTHON_2.get(module, module)}.{name}'))

    def do_reduce(self, _: None) -> None:
        args, called = self.stack.pop(), self.stack.pop()
        if type(called) is not Name or type(args) is not tuple:
            raise FormatError('its pickle calls what has no name')
        self.stack.append(Instance(called.path, args))

    do_newobj = do_reduce

    def do_build(self, _: None) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if type(target) is not Instance:
            raise FormatError('its pickle fills what it did not make')
        target.state = state

    def do_binpersid(self, _: None) -> None:
        self.stack.append(Reference(self.stack.pop()))


def read_pickle(file: BytesIO) -> Any:
    """Read one pickle, to its end.

    Args:
        file: What stands behind the pickle is left to read.

    Returns:
        A tree of Python's plain types, :class:`Name`, :class:`Instance` and
        :class:`Reference`; it may be deep, and may contain itself.

    Raises:
        Exception: Of any kind, if the pickle is broken.
    """
    return _Machine().run(file)
