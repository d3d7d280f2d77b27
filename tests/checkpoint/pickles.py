"""Pickles and files of PyTorch, written operation by operation."""

import struct
import zipfile

import torch


def text(value):
    """A str."""
    value = value.encode()
    return b'X' + struct.pack('<I', len(value)) + value


def name(module, name):
    """What would be imported."""
    return f'c{module}\n{name}\n'.encode()


def raw(content):
    """Bytes, as protocol 2 has them."""
    return called(
        name('_codecs', 'encode'),
        text(content.decode('latin1')),
        text('latin1'),
    )


def called(function, *arguments):
    """A call."""
    return function + b'(' + b''.join(arguments) + b'tR'


def number(value):
    return b'J' + struct.pack('<i', value)


def numbers(*values):
    """A tuple."""
    return b'(' + b''.join(map(number, values)) + b't'


def mapping(**entries):
    """A dict of pickled values."""
    return b'}(' + b''.join(text(k) + v for k, v in entries.items()) + b'u'


def storage(count, key='0', kind='FloatStorage'):
    """A reference to numbers."""
    return (
        b'('
        + text('storage')
        + name('torch', kind)
        + text(key)
        + text('cpu')
        + number(count)
        + b'tQ'
    )


def tensor(size, stride, count=4, offset=0, kind='FloatStorage'):
    return called(
        name('torch._utils', '_rebuild_tensor_v2'),
        storage(count, kind=kind),
        number(offset),
        numbers(*size),
        numbers(*stride),
        b'\x89',
        called(name('collections', 'OrderedDict')),
    )


def write(path, code, **parts):
    """A file of PyTorch with this pickle; returns its path.

    ``parts`` are of four float32 in ``data/0``, unless they are given.
    """
    torch.save(dict(x=torch.arange(4.0)), path)
    with zipfile.ZipFile(path) as old:
        content = {n: old.read(n) for n in old.namelist()}
        (root,) = {n.split('/')[0] for n in content}
    content[f'{root}/data.pkl'] = b'\x80\x02' + code + b'.'
    content |= {f'{root}/{n}': part for n, part in parts.items()}
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_STORED) as new:
        for part, value in content.items():
            new.writestr(part, value)
    return path
