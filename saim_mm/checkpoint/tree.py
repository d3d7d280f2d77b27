"""Plain data and tensors from what a pickle of PyTorch says.

What is known among the records of :mod:`.pickle_data` becomes a tensor, a
number or a container here; some kinds of things that are no weights are left
out, and at anything else the file is refused.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .errors import CodeError, FormatError
from .pickle_data import KEYS, Instance, Name, Reference

#: How often the numbers of a storage may be used, in all.
TIED = 64

#: Containers in containers; a checkpoint has fewer than ten.
MAX_DEPTH = 50

#: Type of a storage, without 'torch.' and 'Storage' -> dtype.
STORAGES = dict(
    Double=torch.float64,
    Float=torch.float32,
    Half=torch.float16,
    BFloat16=torch.bfloat16,
    Long=torch.int64,
    Int=torch.int32,
    Short=torch.int16,
    Char=torch.int8,
    Byte=torch.uint8,
    Bool=torch.bool,
    ComplexFloat=torch.complex64,
    ComplexDouble=torch.complex128,
)

#: 'torch.NAME' -> dtype, of those that this PyTorch has.
DTYPES = {
    f'torch.{name}': getattr(torch, name)
    for name in (
        *('float64', 'float32', 'float16', 'bfloat16', 'float8_e4m3fn'),
        *('float8_e5m2', 'int64', 'int32', 'int16', 'int8', 'uint64'),
        *('uint32', 'uint16', 'uint8', 'bool', 'complex64', 'complex128'),
    )
    if hasattr(torch, name)
}

#: NumPy's name of a dtype -> PyTorch's.
ARRAYS = dict(
    f8=torch.float64,
    f4=torch.float32,
    f2=torch.float16,
    i8=torch.int64,
    i4=torch.int32,
    i2=torch.int16,
    i1=torch.int8,
    u1=torch.uint8,
    b1=torch.bool,
)

#: Known things that are no weights, and that nothing here reads.
DROPPED = {
    '_codecs.encode',
    'argparse.Namespace',
    'builtins.bytearray',
    'builtins.bytes',
    'builtins.complex',
    'builtins.frozenset',
    'builtins.set',
    'builtins.slice',
    'datetime.datetime',
    'mmcv.utils.config.ConfigDict',
    'mmengine.config.config.Config',
    'mmengine.config.config.ConfigDict',
    'mmengine.logging.history_buffer.HistoryBuffer',
    'mmengine.logging.message_hub.MessageHub',
    'omegaconf.dictconfig.DictConfig',
    'omegaconf.listconfig.ListConfig',
    'pathlib.PosixPath',
    'pathlib.PurePosixPath',
    'pathlib.WindowsPath',
    'torch.device',
}

#: Stands for what is dropped.
NOTHING = object()


@dataclass(frozen=True)
class Storage:
    """Which numbers a :class:`Reference` stands for."""

    dtype: torch.dtype
    key: str
    number: int  # of values, for a view those of the whole
    view: tuple[int, int] | None = None  # first value, number of values

    @property
    def nbytes(self) -> int:
        return self.number * self.dtype.itemsize

    @classmethod
    def of(cls, reference: Any) -> Storage:
        if type(reference) is not Reference or type(reference.id) is not tuple:
            raise FormatError('a tensor without numbers')
        word, kind, key, _, number, *view = reference.id
        if word != 'storage' or type(kind) is not Name:
            raise FormatError('a tensor without numbers')
        name = kind.path.removeprefix('torch.').removesuffix('Storage')
        if kind.path == 'torch.storage.UntypedStorage':
            name = 'Byte'
        elif kind.path != f'torch.{name}Storage' or name not in STORAGES:
            raise FormatError(f'numbers of a type {kind.path!r:.50}')
        place = None
        if view and view[0] is not None:  # before PyTorch 1.6
            _, *place = view[0]
            place = _size(tuple(place), 'view')
        if type(key) is not str:
            raise FormatError('numbers without a name')
        (number,) = _size((number,), 'number of values')
        return cls(STORAGES[name], key, number, place)


def from_bytes(content: bytes, dtype: torch.dtype) -> Tensor:
    if not content:
        return torch.empty(0, dtype=dtype)
    return torch.frombuffer(bytearray(content), dtype=dtype)


def _size(value: Any, what: str) -> tuple[int, ...]:
    """Sizes or strides that a file gives."""
    if (
        type(value) is not tuple
        or len(value) > 64
        or not all(type(x) is int and 0 <= x < 2**62 for x in value)
    ):
        raise FormatError(f'a tensor without a right {what}')
    return value


class TreeBuilder:
    """Makes a plain tree of what a pickle says.

    Args:
        length: Of the pickle, in bytes.
        read: Gives the numbers of a storage, (N,).
    """

    def __init__(self, length: int, read: Callable[[Storage], Tensor]) -> None:
        self.read = read
        self.storages: dict[str, Tensor] = {}
        self.used: dict[str, int] = {}  # how many values of each
        # Each part takes a byte at least; what is repeated (a tensor's values
        # by ``expand``, too) takes no more than this.
        self.left = 10 * length + 2**20

    def build(self, value: Any, depth: int = 0) -> Any:
        self._take(1)
        if depth > MAX_DEPTH:
            raise FormatError('deeper than checkpoints are')
        kind = type(value)
        if kind in KEYS:
            return value
        if kind is dict:
            return self._dict(value.items(), depth)
        if kind in (list, tuple):
            parts = [self.build(part, depth + 1) for part in value]
            return kind(None if p is NOTHING else p for p in parts)
        if kind is Instance:
            return self._instance(value, depth)
        if kind is bytes or (kind is Name and value.path in DTYPES):
            return NOTHING
        if kind is Name:
            raise CodeError(value.path)
        raise FormatError('numbers that belong to no tensor')

    def _take(self, number: int) -> None:
        self.left -= number
        if self.left < 0:
            raise FormatError('larger than its file')

    def _dict(self, pairs: Any, depth: int) -> dict:
        built = {}
        for key, value in pairs:
            if type(key) not in KEYS:
                raise FormatError(f'a dict with a {type(key).__name__}')
            value = self.build(value, depth + 1)
            if value is not NOTHING:
                built[key] = value
        return built

    def _instance(self, made: Instance, depth: int) -> Any:
        path, args = made.path, made.args
        if path in (
            'collections.OrderedDict',
            'collections.Counter',
            'collections.defaultdict',
        ):
            return self._mapping(made, depth)
        if path in ('torch._utils._rebuild_tensor', *REBUILT):
            return self._tensor(made)
        if path == 'torch._tensor._rebuild_from_type_v2':  # has attributes
            function, _, args = args[:3]
            if type(function) is not Name or type(args) is not tuple:
                raise CodeError(path)
            return self.build(Instance(function.path, args), depth + 1)
        if path.startswith('torch._utils._rebuild_parameter'):
            tensor = self.build(args[0], depth + 1)
            if not isinstance(tensor, Tensor):
                raise CodeError(path)
            return tensor
        if path == 'torch.Size':
            return _size(args[0] if len(args) == 1 else None, 'size')
        module, _, name = path.rpartition('.')
        if module in ('numpy.core.multiarray', 'numpy._core.multiarray'):
            if name == 'scalar':
                array = _array(args[0], (), args[1] if args[1:] else None)
                return array if array is NOTHING else array.item()
            if name == '_reconstruct' and type(made.state) is tuple:
                _, shape, dtype, fortran, content = made.state
                array = _array(dtype, shape, content, fortran)
                if array is not NOTHING:  # as often as it is referred to
                    self._take(array.numel())
                return array
        if path in DROPPED:
            return NOTHING
        raise CodeError(path)

    def _mapping(self, made: Instance, depth: int) -> dict:
        """An OrderedDict, which may have what modules say of their weights."""
        given = made.args[-1] if made.args else None
        if type(given) is dict:
            given = list(given.items())
        elif type(given) is list:  # as Python 2 did
            given = [tuple(pair) for pair in given]
        else:  # a defaultdict's function
            given = []
        built = self._dict([*given, *made.items], depth)
        state = made.state if type(made.state) is dict else {}
        versions = state.get('_metadata')
        if made.path == 'collections.OrderedDict' and versions is not None:
            built = OrderedDict(built)
            versions = self.build(versions, depth + 1)
            metadata = OrderedDict(
                (name, dict(version=entry['version']))
                for name, entry in dict(versions).items()
                if type(name) is str
                and type(entry) is dict
                and type(entry.get('version')) is int
            )
            setattr(built, '_metadata', metadata)  # noqa: B010
        return built

    def _tensor(self, made: Instance) -> Tensor:
        reference, offset, size, stride = made.args[:4]
        which = Storage.of(reference)
        if which.key not in self.storages:
            self.storages[which.key] = self.read(which)
        storage = self.storages[which.key]
        if storage.dtype != which.dtype:
            raise FormatError('numbers of two types')
        if which.view is not None:
            first, length = which.view
            storage = storage[first : first + length]
        if made.path == 'torch._utils._rebuild_tensor_v3':
            (dtype,) = made.args[6:7]
            if type(dtype) is not Name or dtype.path not in DTYPES:
                raise FormatError('a tensor of an unknown dtype')
            storage = storage.view(DTYPES[dtype.path])
        extra = REBUILT.get(made.path)
        if extra and any(made.args[extra:]):
            raise FormatError('a tensor that is conjugated or negated')
        (offset,) = _size((offset,), 'offset')
        size, stride = _size(size, 'size'), _size(stride, 'stride')
        number = math.prod(size)
        last = offset + sum((n - 1) * s for n, s in zip(size, stride))
        if len(size) != len(stride) or (number and last >= len(storage)):
            raise FormatError('a tensor that reaches out of its storage')
        # Weights may be tied; what comes again and again may be copied later.
        before = self.used.get(which.key, 0)
        self.used[which.key] = before + number
        free = max(before, TIED * len(self.storages[which.key]))
        self._take(max(0, before + number - free))
        return storage.as_strided(size, stride, offset if number else 0)


#: How PyTorch pickles a tensor -> after how many arguments its bits stand.
REBUILT = {
    'torch._utils._rebuild_tensor_v2': 6,
    'torch._utils._rebuild_tensor_v3': 7,
}


def _bytes(value: Any) -> bytes:
    """What the ways to pickle bytes in protocol 2 say."""
    if type(value) is bytes:
        return value
    if type(value) is str:  # Python 2
        return value.encode('latin1')
    if type(value) is Instance:
        if value.path == 'builtins.bytes' and not value.args:
            return b''
        if value.path == '_codecs.encode' and type(value.args[0]) is str:
            return value.args[0].encode('latin1')
    raise FormatError('an array without numbers')


def _array(dtype: Any, shape: Any, content: Any, fortran: Any = False) -> Any:
    """An array or scalar of NumPy, if it is of plain numbers."""
    if type(dtype) is not Instance or dtype.path != 'numpy.dtype':
        raise FormatError('an array without a type')
    order = dtype.state[1] if type(dtype.state) is tuple else '='
    (kind, *_) = dtype.args or [None]
    if type(kind) is not str or kind not in ARRAYS or order not in '<=|':
        return NOTHING  # texts, structures, objects, big-endian
    values = from_bytes(_bytes(content), ARRAYS[kind])
    shape = _size(shape, 'shape')
    if fortran:
        return values.reshape(shape[::-1]).permute(
            *reversed(range(len(shape)))
        )
    return values.reshape(shape)
