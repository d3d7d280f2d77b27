"""Damaged files: the same weights, or an error that names the file."""

import codecs
import io
import os
import sys
from collections import OrderedDict

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmengine.logging import HistoryBuffer
from pickles import write
from safetensors.torch import save

from saim_mm.checkpoint.loader import (
    load_from_local,
    load_state_dict,
    save_state_dict,
)
from saim_mm.checkpoint.plain import to_plain
from saim_mm.checkpoint.safe_load import check_plain


def weights():
    generator = torch.Generator().manual_seed(0)
    return OrderedDict(
        a=torch.randn(5, 3, generator=generator),
        b=torch.arange(4),
        c=torch.randn(7, generator=generator).half(),
    )


def training():
    """As SAIMRunner saves it."""
    return to_plain(
        dict(
            meta=dict(epoch=1, iter=2, cfg='model = dict()'),
            state_dict=weights(),
            message_hub=dict(
                log_scalars=dict(loss=HistoryBuffer([1.0], [1])),
                runtime_info=dict(epoch=1),
                resumed_keys=dict(loss=True),
            ),
            optimizer=dict(state={0: dict(step=torch.ones(()))}),
        )
    )


@pytest.fixture(params=['pth', 'training', 'safetensors'])
def whole(request, tmp_path):
    """A file that this package wrote; it says itself if it is damaged."""
    path = tmp_path / f'whole.{request.param}'
    if request.param == 'training':
        torch.save(training(), path)
    else:
        save_state_dict(weights(), path)
    return path


def same(first, second):
    if isinstance(first, torch.Tensor):
        return (
            first.dtype == second.dtype
            and first.shape == second.shape
            and torch.equal(first, second)
        )
    if isinstance(first, dict):
        return list(first) == list(second) and all(
            same(first[k], second[k]) for k in first
        )
    return first == second


def damaged(content, step):
    """The file with a bit of a byte flipped, zeros, or its end cut off."""
    for i in range(0, len(content), step):
        flipped = bytearray(content)
        flipped[i] ^= 1 << (i % 8)
        yield f'bit {i % 8} of byte {i}', flipped
        zeros = bytearray(content)
        zeros[i : i + 64] = bytes(len(content[i : i + 64]))
        yield f'zeros from {i}', zeros
        yield f'the first {i} bytes', content[:i]
        yield f'twice from {i}', content[:i] + content[i : i + 9] + content[i:]


def check(path, content, expected):
    """Whether damage is seen; if it is not, nothing may be lost by it."""
    path.write_bytes(content)
    try:
        loaded = load_from_local(path)
    except ValueError as error:
        assert path.name in str(error)
        return True
    assert same(loaded, expected)
    return False


@pytest.mark.parametrize('step', [29, pytest.param(1, marks=pytest.mark.slow)])
def test_no_damage_gives_other_weights(whole, step):
    content, expected = whole.read_bytes(), load_from_local(whole)
    seen = []
    for what, changed in damaged(content, step):
        try:
            seen.append(check(whole, changed, expected))
        except Exception as error:
            raise AssertionError(what) from error
    # What is not seen is padding, names of things that nobody reads, ...
    assert sum(seen) > 0.6 * len(seen), (sum(seen), len(seen))


def test_files_of_others_are_errors_too(tmp_path):
    """They have no checksum, but what does not fit is an error."""
    path = tmp_path / 'x.pth'
    file = io.BytesIO()
    torch.save(training(), file, _use_new_zipfile_serialization=False)
    plain = save(dict(weights()))
    path.write_bytes(file.getvalue())
    assert load_from_local(path)['meta']['iter'] == 2
    for content in (file.getvalue(), plain):
        for _, changed in damaged(content, 41):
            path.write_bytes(changed)
            try:
                check_plain(load_from_local(path))
            except ValueError as error:
                assert 'x.pth' in str(error)
    path.write_bytes(plain)  # by its content, whatever it is called
    assert same(load_state_dict(path), dict(sorted(weights().items())))


def test_what_cannot_be_read_is_no_damage(tmp_path):
    """--resume may pass over damage, but not over these."""
    with pytest.raises(FileNotFoundError):
        load_from_local(tmp_path / 'none.pth')
    path = tmp_path / 'x.pth'
    save_state_dict(weights(), path)
    with pytest.raises(RuntimeError):
        load_from_local(path, 'cuda:99')
    if os.getuid():
        path.chmod(0)
        with pytest.raises(PermissionError):
            load_from_local(path)


# What stands in for an attacker: any operation of a pickle, in any order, with
# names that have been used to attack.
NAMES = [
    *('builtins eval', 'builtins exec', 'builtins getattr', 'builtins open'),
    *('posix system', 'os system', 'subprocess Popen', 'numpy ndarray'),
    *('numpy dtype', 'numpy._core.multiarray scalar', 'builtins set'),
    *('numpy._core.multiarray _reconstruct', 'numpy.core.multiarray scalar'),
    *('collections OrderedDict', 'collections Counter', 'torch Size'),
    *('collections defaultdict', 'torch FloatStorage', 'torch Tensor'),
    *('torch.storage UntypedStorage', 'torch float32', 'torch device'),
    *('torch._utils _rebuild_tensor_v2', 'torch._utils _rebuild_tensor'),
    *('torch._utils _rebuild_tensor_v3', 'torch._utils _rebuild_parameter'),
    *('torch._tensor _rebuild_from_type_v2', '_codecs encode'),
    *('torch._utils _rebuild_sparse_tensor', 'argparse Namespace'),
    *('torch._utils _rebuild_qtensor', 'torch.nn.parameter Parameter'),
    *('mmengine.logging.history_buffer HistoryBuffer', 'a.b c.d'),
]
TEXTS = ['', 'storage', '0', 'cpu', 'f8', 'O', '<', 'latin1', 'meta', 'config']
operations = st.one_of(
    st.sampled_from(NAMES).map(
        lambda n: b'c' + n.replace(' ', '\n').encode() + b'\n'
    ),
    st.sampled_from(TEXTS).map(
        lambda t: b'X' + len(t).to_bytes(4, 'little') + t.encode()
    ),
    st.integers(0, 255).map(lambda i: b'K' + bytes([i])),
    st.binary(min_size=4, max_size=4).map(lambda b: b'J' + b),
    st.integers(0, 3).map(lambda i: b'h' + bytes([i])),
    st.integers(0, 3).map(lambda i: b'q' + bytes([i])),
    st.sampled_from([bytes([c]) for c in b'((()]}tttRRRbb\x85\x86\x87\x81']),
    st.sampled_from([bytes([c]) for c in b'aesuNQQ\x88\x89\x8f\x90\x91\x93']),
    st.binary(min_size=1, max_size=1),
)
pickles = st.lists(operations, max_size=40).map(b''.join)


@st.composite
def mutants(draw):
    """A whole file with bytes replaced, left out, repeated and put in."""
    content = bytearray(BASES[draw(st.sampled_from(sorted(BASES)))])
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        length = draw(st.sampled_from([0, 1, 1, 4, 30]))
        new = draw(
            st.one_of(
                st.binary(max_size=8),
                st.sampled_from(
                    [b'PK\3\4', b'\xff' * 8, b'\0' * 4, *NAMES_AS_BYTES]
                ),
            )
        )
        content[at : at + length] = new
    return bytes(content)


def bases():
    found = {}
    for kind in ('zip', 'legacy', 'protocol 4'):
        file = io.BytesIO()
        how = dict(
            zip={},
            legacy=dict(_use_new_zipfile_serialization=False),
        ).get(kind, dict(pickle_protocol=4))
        value = training()
        value['message_hub']['log_scalars'] = HistoryBuffer([1.0], [1])
        torch.save(value, file, **how)
        found[kind] = file.getvalue()
    found['safetensors'] = save(dict(weights()), dict(format='pt'))
    return found


BASES = bases()
NAMES_AS_BYTES = [
    b'c' + name.replace(' ', '\n').encode() + b'\n' for name in NAMES
]

#: Events of Python's audit that loading must not cause.
FORBIDDEN = (
    *('exec', 'import', 'pickle.find_class', 'marshal.', 'code.__new__'),
    *('os.', 'subprocess.', 'shutil.', 'socket.', 'ctypes.', 'urllib.'),
    *('builtins.input', 'object.__setattr__', 'tempfile.', 'ftplib.'),
)
WATCH = dict(on=False, events=[])


def audit(event, arguments):
    if WATCH['on'] and (
        event.startswith(FORBIDDEN)
        or (event == 'open' and arguments[1] not in ('r', 'rb', None))
    ):
        WATCH['events'].append((event, arguments))


sys.addaudithook(audit)


@pytest.fixture(scope='module')
def watched(tmp_path_factory):
    """Loads files of any content, and looks at what happens meanwhile."""
    folder = tmp_path_factory.mktemp('watched')
    path = folder / 'x.pth'
    for content in BASES.values():  # imports what is imported late
        path.write_bytes(content)
        load_from_local(path)
    for codec in ('cp437', 'latin1', 'raw_unicode_escape', 'unicode_escape'):
        codecs.lookup(codec)

    def load(content):
        path.write_bytes(content)
        WATCH.update(on=True, events=[])
        try:
            loaded = load_from_local(path)
        except ValueError as error:
            assert 'x.pth' in str(error)
        else:
            check_plain(loaded)
            touch(loaded)
        finally:
            WATCH['on'] = False
        assert not WATCH['events'], WATCH['events']
        assert [p.name for p in folder.iterdir()] == ['x.pth']

    return load


def touch(tree):
    """Read every number of every tensor."""
    if isinstance(tree, torch.Tensor):
        float(tree.float().nan_to_num().abs().sum())
    for part in tree.values() if isinstance(tree, dict) else ():
        touch(part)
    for part in tree if isinstance(tree, (list, tuple)) else ():
        touch(part)


def examples(number):
    return settings(
        max_examples=number,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )


def wrapped(code, folder):
    return write(folder / 'wrapped', code).read_bytes()


@examples(150)
@given(content=mutants())
def test_mutants(watched, content):
    watched(content)


@examples(150)
@given(code=pickles)
def test_any_pickle(watched, tmp_path_factory, code):
    folder = tmp_path_factory.getbasetemp()
    watched(wrapped(code, folder))


@pytest.mark.slow
@examples(3000)
@given(content=mutants())
def test_many_mutants(watched, content):
    watched(content)


@pytest.mark.slow
@examples(3000)
@given(code=pickles)
def test_many_pickles(watched, tmp_path_factory, code):
    folder = tmp_path_factory.getbasetemp()
    watched(wrapped(code, folder))


def test_the_watch_sees_what_runs(tmp_path):
    """Python's own unpickler would be caught at each of these."""
    import pickle

    for code in (
        b'cbuiltins\nexec\n(X\x01\x00\x00\x001tR.',
        b'cposix\nsystem\n(X\x04\x00\x00\x00truetR.',
        b'cbuiltins\nlen\n.',
    ):
        WATCH.update(on=True, events=[])
        try:
            pickle.loads(code)
        finally:
            WATCH['on'] = False
        assert WATCH['events']
