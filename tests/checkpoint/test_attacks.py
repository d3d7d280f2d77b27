"""Files that attack: nothing runs, nothing outside is touched, no crash."""

import http.server
import io
import struct
import sys
import threading
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import call, config, train
from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.infer import BaseInferencer
from mmengine.logging import MessageHub, MMLogger
from mmengine.runner import CheckpointLoader
from pickles import (
    called,
    mapping,
    name,
    number,
    numbers,
    raw,
    storage,
    tensor,
    text,
    write,
)

from saim_mm import SAIMViT
from saim_mm.checkpoint.loader import load_from_local, register_loaders
from saim_mm.checkpoint.safe_load import check_plain

ARRAY = name('numpy', 'ndarray')
DTYPE = name('numpy', 'dtype')
SCALAR = name(np.float64().__reduce__()[0].__module__, 'scalar')


def struct_of(config):
    """A NumPy scalar that has ``in`` and ``[]``, as a dict has."""
    kind = np.dtype(
        [('config', f'U{len(config)}'), ('epoch', 'i8'), ('iter', 'i8')]
        + [('x', 'U6')]
    )
    value = np.array([(config, 0, 1, 'config')], kind)
    fields = b''.join(
        text(n) + text(kind[n].str) + b'\x86' for n in kind.names
    )
    return called(
        SCALAR, called(DTYPE, b'](' + fields + b'e'), raw(value.tobytes())
    )


#: Pickles that have run code, read memory or crashed in one loader or another.
CALLS = {
    'an object array out of raw bytes': called(
        ARRAY, numbers(1), called(DTYPE, text('O')), raw(b'\x10' + b'\0' * 7)
    ),
    'an object scalar out of raw bytes': called(
        SCALAR, called(DTYPE, text('O')), raw(b'\x41' * 8)
    ),
    'an array out of its buffer': called(
        ARRAY,
        *(numbers(1 << 20), text('f8'), raw(b'\0' * 8), number(0)),
        numbers(8),
    ),
    'a system call': called(name('posix', 'system'), text('true')),
    'eval': called(name('builtins', 'eval'), text('1')),
    'getattr': called(
        name('builtins', 'getattr'), name('builtins', 'dict'), text('pop')
    ),
    'a sparse tensor with indices outside': called(
        name('torch._utils', '_rebuild_sparse_tensor'),
        called(name('torch.serialization', '_get_layout'), text('sparse_coo')),
        b'(' + tensor((1, 4), (4, 1)) + tensor((4,), (1,)) + numbers(2) + b't',
    ),
    'an attribute of a tensor': called(
        name('torch._tensor', '_rebuild_from_type_v2'),
        name('builtins', 'exec'),
        name('torch', 'Tensor'),
        b'(' + text('1') + b't',
        mapping(data=number(1)),
    ),
    'memory of a size': called(name('torch', 'FloatTensor'), number(1 << 30)),
    'memory of a storage': called(
        name('torch', 'FloatStorage'), number(1 << 30)
    ),
    'a name that is no module': name('a.b.c', 'd'),
    'what is left out, filled with code': called(
        name('torch._utils', '_rebuild_parameter'),
        called(name('argparse', 'Namespace')),
    ),
}


@pytest.mark.parametrize('what', CALLS)
def test_no_call_is_made(what, tmp_path):
    path = write(tmp_path / 'x.pth', mapping(state_dict=CALLS[what]))
    if what == 'an object scalar out of raw bytes':  # left out
        assert load_from_local(path) == {}
        return
    with pytest.raises(ValueError, match=r'x\.pth'):
        load_from_local(path)


#: Tensors and structures that are not what they seem.
SHAPES = {
    'reaches behind its numbers': tensor((5,), (1,)),
    'begins behind them': tensor((1,), (1,), offset=4),
    'begins before them': tensor((1,), (1,), offset=-1),
    'steps out of them': tensor((2, 2), (3, 1)),
    'steps backwards': tensor((2,), (-1,)),
    'is of a negative size': tensor((-1,), (1,)),
    'is of a huge size': tensor((1 << 30, 1 << 30), (0, 0)),
    'has more strides than sizes': tensor((1,), (1, 1)),
    'says that it has more numbers': tensor((4,), (1,), count=5),
    'says that it has fewer': tensor((2,), (1,), count=2),
    'is of another type than its numbers': tensor(
        (4,), (1,), kind='DoubleStorage'
    ),
    'is quantised': tensor((4,), (1,), kind='QInt8Storage'),
    'has a storage of no type': tensor((4,), (1,), kind='Generator'),
    'is a storage alone': storage(4),
    'is of two types': b'('
    + tensor((4,), (1,))
    + tensor((2,), (1,), count=2, kind='DoubleStorage')
    + b't',
    'has numbers of another name': called(
        name('torch._utils', '_rebuild_tensor_v2'),
        storage(4, key='../../x'),
        *(number(0), numbers(4), numbers(1), b'\x89', b'N'),
    ),
    'contains itself': b']q\x00h\x00a',
    'is deep': b']' * 100_000 + b'a' * 99_999,
    'is a deep tuple': b')' + b'\x85' * 100_000,
    'has a deep key': b'}' + b')' + b'\x85' * 100_000 + b'Ns',
    'has a deep storage': b')' + b'\x85' * 100_000 + b'Q',
    'has a deep call': b')'
    + (b'q\x00' + name('a', 'b') + b'h\x00R\x85') * 20_000,
    'doubles itself': b')' + b'q\x00h\x00\x86' * 100,
    'is without a stack': b'\x87',
    'is without a mark': b't',
    'is without a memo': b'h\x07',
    'fills a list': b']}b',
    'sets items of a list': b']K\x01K\x01s',
    'appends to a number': b'K\x01K\x01a',
    'calls a list': b'])R',
    'has half a pair': b'}(K\x01u',
    'is of an operation that torch.save does not know': b'I1\n',
    'is of an extension': b'\x82\x01',
    'keeps at a huge place': b'Nr\xff\xff\xff\x7f',
    'says a huge length': b'\x8d' + b'\xff' * 7 + b'\x7f' + b'x',
    'has no end': b'(' * 1000,
}


def test_what_is_said_again_and_again(tmp_path):
    """A word in a file, and much memory each time."""
    path = tmp_path / 'x.pth'
    torch.save([np.zeros(2**16)] * 1000, path)
    with pytest.raises(ValueError, match=r'x\.pth.*larger than its file'):
        load_from_local(path)
    one = torch.zeros(1)
    torch.save([one.expand(2**20)] * 10, path)
    with pytest.raises(ValueError, match=r'x\.pth.*larger than its file'):
        load_from_local(path)
    whole = torch.zeros(2**16)
    torch.save([whole.view(-1) for _ in range(1000)], path)
    with pytest.raises(ValueError, match=r'x\.pth.*larger than its file'):
        load_from_local(path)
    torch.save(
        [whole[:1].expand(9)] + [whole.view(-1) for _ in range(8)], path
    )
    assert len(load_from_local(path)) == 9
    torch.save([one.expand(2**19), one.expand(2, 3)], path)
    assert [len(x) for x in load_from_local(path)] == [2**19, 2]
    # Lists take more.
    values = torch.zeros(2**16)
    for times, kept in ((8, True), (20, False)):
        meta = dict(epoch=1, CLASSES=[values] * times)
        torch.save(dict(meta=meta, state_dict={}), path)
        assert ('CLASSES' in load_from_local(path)['meta']) == kept


@pytest.mark.parametrize('what', SHAPES)
def test_nothing_is_made_of_what(what, tmp_path):
    path = write(tmp_path / 'x.pth', SHAPES[what])
    if what == 'keeps at a huge place':
        assert load_from_local(path) is None
        return
    with pytest.raises(ValueError, match=r'x\.pth'):
        load_from_local(path)


def test_zips_that_are_not_what_they_seem(tmp_path):
    path = tmp_path / 'x.pth'
    torch.save(dict(x=torch.zeros(1 << 16)), path)
    good = path.read_bytes()

    def rewritten(compression, **more):
        with zipfile.ZipFile(io.BytesIO(good)) as old:
            parts = {n: old.read(n) for n in old.namelist()}
        with zipfile.ZipFile(path, 'w', compression) as new:
            for part, value in {**parts, **more}.items():
                new.writestr(part, value)

    rewritten(zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2000  # of a quarter of a megabyte
    with pytest.raises(ValueError, match=r'x\.pth.: a compressed part'):
        load_from_local(path)
    rewritten(
        zipfile.ZIP_STORED, **{'x/constants.pkl': b'', 'x/code/a.py': b''}
    )
    with pytest.raises(ValueError, match='TorchScript'):
        load_from_local(path)
    rewritten(zipfile.ZIP_STORED, **{'other/data.pkl': b'\x80\x02N.'})
    with pytest.raises(ValueError, match='that torch.save did not write'):
        load_from_local(path)
    rewritten(zipfile.ZIP_STORED, **{'x/byteorder': b'big'})
    with pytest.raises(ValueError, match='from a big-endian machine'):
        load_from_local(path)
    # Two parts that are the same bytes of the file.
    rewritten(zipfile.ZIP_STORED, **{'x/data/1': b'\0' * (1 << 18)})
    content = bytearray(path.read_bytes())
    entries = [
        i for i in range(len(content)) if content[i : i + 4] == b'PK\1\2'
    ]
    places = [content[i + 42 : i + 46] for i in entries]
    numbers = [i for i in entries if b'x/data/' in content[i + 46 : i + 60]]
    for i in numbers:
        content[i + 42 : i + 46] = places[entries.index(numbers[0])]
    path.write_bytes(content)
    load_from_local(path)  # data/1 belongs to nothing
    # PyTorch reads the first of a name, and the first of two archives.
    other = io.BytesIO()
    torch.save(dict(x=torch.ones(1 << 16)), other)
    for content in (good + other.getvalue(), b'PK' + good):
        path.write_bytes(content)
        with pytest.raises(ValueError, match='others read other parts'):
            load_from_local(path)
    with zipfile.ZipFile(io.BytesIO(good)) as old:
        names = old.namelist()
    (pickled,) = [n for n in names if n.endswith('data.pkl')]
    with pytest.warns(UserWarning, match='Duplicate name'):
        path.write_bytes(good)
        with zipfile.ZipFile(path, 'a') as new:
            new.writestr(pickled, b'\x80\x02N.')
    with pytest.raises(ValueError, match='others read other parts'):
        load_from_local(path)
    script = torch.jit.script(torch.nn.Linear(1, 1))
    torch.jit.save(script, path)
    with pytest.raises(ValueError, match='save the state_dict'):
        load_from_local(path)


def test_pytorchs_variable_changes_nothing(tmp_path, monkeypatch):
    """It makes torch.load execute pickles."""
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    evidence = tmp_path / 'evidence'
    code = called(name('builtins', 'open'), text(str(evidence)), text('w'))
    for path in (
        write(tmp_path / 'x.pth', code),
        tmp_path / 'plain.pth',
    ):
        if not path.exists():  # before PyTorch 1.6
            path.write_bytes(b'\x80\x02' + code + b'.')
        with pytest.raises(ValueError, match=path.name):
            load_from_local(path)
    assert not evidence.exists()


def test_every_scheme_of_mmengine_is_ours():
    """Also those that it registers after this package."""
    register_loaders()
    loaders = {f.__module__ for f in CheckpointLoader._schemes.values()}
    assert loaders == {'saim_mm.checkpoint.loader'}


@pytest.fixture(scope='module')
def trained(photos, tmp_path_factory):
    """A checkpoint of one iteration, as bytes, and the config."""
    folder = tmp_path_factory.mktemp('trained')
    cfg = config(photos, folder / 'run', iters=2)
    cfg.train_cfg.max_iters = 1
    train(cfg)
    return (folder / 'run/iter_1.pth').read_bytes()


def replace_meta(content, path, meta):
    """A training's checkpoint with another ``meta``, which is pickled."""
    torch.save({**load(content), 'meta': 'META'}, path)
    with zipfile.ZipFile(path) as old:
        parts = {n: old.read(n) for n in old.namelist()}
    (pickled,) = [n for n in parts if n.endswith('data.pkl')]
    assert parts[pickled].count(text('META')) == 1
    parts[pickled] = parts[pickled].replace(text('META'), meta)
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_STORED) as new:
        for part, value in parts.items():
            new.writestr(part, value)


def load(content):
    return torch.load(io.BytesIO(content))


@pytest.mark.parametrize('way', ['dict', 'structured scalar'])
def test_no_config_in_meta_is_run(trained, photos, tmp_path, way):
    """MMEngine runs the text of ``meta['config']`` when it resumes."""
    run, evidence = tmp_path / 'run', tmp_path / 'evidence'
    run.mkdir()
    code = f"open({str(evidence)!r}, 'w')"
    path = run / 'iter_1.pth'
    if way == 'dict':
        checkpoint = load(trained)
        checkpoint['meta']['config'] = code
        torch.save(checkpoint, path)
    else:
        replace_meta(trained, path, struct_of(code))
        assert 'meta' not in load_from_local(path)
    try:
        train(config(photos, run, iters=2), resume=True)
    except (KeyError, ValueError):  # without meta
        assert way != 'dict'
    assert not evidence.exists()


@pytest.mark.parametrize('place', ['meta', 'message_hub'])
def test_no_config_of_an_inferencer_is_run(tmp_path, place):
    """Without a config it runs that of the checkpoint; here it has none."""
    evidence, path = tmp_path / 'evidence', tmp_path / 'x.pth'
    cfg = dict(cfg=f"open({str(evidence)!r}, 'w')")
    checkpoint = dict(state_dict=dict(x=torch.zeros(1)), meta={})
    if place == 'meta':
        checkpoint['meta'] = cfg
    else:
        checkpoint[place] = dict(runtime_info=cfg)
    torch.save(checkpoint, path)
    loaded = load_from_local(path)
    assert ('config_text' in loaded['meta']) == (place == 'meta')
    with pytest.raises(ValueError, match='Cannot find the config in the che'):
        BaseInferencer._init_model(None, Config(), str(path))
    assert not evidence.exists()


@pytest.mark.parametrize('named', ['precious', '../precious', 'best_1.pth'])
def test_a_checkpoint_removes_nothing_else(trained, tmp_path, named):
    """``save_best`` removes the best one before, which a checkpoint names."""
    run, precious = tmp_path / 'run', tmp_path / 'precious'
    run.mkdir()
    precious.mkdir()
    (precious / 'thesis.txt').write_text('')
    (run / 'best_1.pth').write_text('')
    (run / 'epoch_1.pth').write_text('')
    checkpoint = load(trained)
    best = str(tmp_path / 'precious') if named == 'precious' else named
    hub = checkpoint['message_hub']
    hub['runtime_info'].update(
        best_ckpt=best, best_score=0.1, keep_ckpt_ids=['../../precious', 0]
    )
    hub['resumed_keys'].update(best_ckpt=True, best_score=True)
    torch.save(checkpoint, run / 'iter_1.pth')

    runner = types.SimpleNamespace(
        work_dir=str(run),
        message_hub=MessageHub.get_instance(f'removes_{tmp_path.name}'),
        logger=MMLogger.get_instance(f'removes_{tmp_path.name}'),
        epoch=1,
        iter=1,
        save_checkpoint=lambda *args, **kwargs: None,
    )
    loaded = CheckpointLoader.load_checkpoint(str(run / 'iter_1.pth'))
    runner.message_hub.load_state_dict(loaded['message_hub'])
    hook = CheckpointHook(1, save_best='acc', rule='greater', max_keep_ckpts=1)
    hook.before_train(runner)
    hook._save_best_checkpoint(runner, dict(acc=1.0))
    assert (precious / 'thesis.txt').exists()
    assert (run / 'epoch_1.pth').exists()
    assert (run / 'best_1.pth').exists() == (named != 'best_1.pth')
    assert runner.message_hub.get_info('best_score') == 1.0


def test_what_a_checkpoint_says_of_itself(tmp_path):
    """Known names and types only; texts may have no other name."""
    names = dict(
        epoch='1', iter=-1, seed=[], cfg=1, time=['x'], config='x', other='x',
        number=0.5, dataset_meta=['x'], CLASSES=('a', 'b'),
    )  # fmt: skip
    hub = dict(
        log_scalars=dict(a=dict(log_history=torch.zeros(2)), b=[1]),
        runtime_info=dict(names, last_ckpt='/etc/passwd', best_ckpt=3),
        resumed_keys=dict(number=True, cfg=True, seed='yes', config=True),
    )
    path = tmp_path / 'x.pth'
    for content in (dict(meta=names, message_hub=hub), dict(meta=3), [hub]):
        torch.save(content, path)
        loaded = load_from_local(path)
        if isinstance(content, list):
            assert loaded[0].keys() == hub.keys()
            continue
        known = dict(number=0.5, CLASSES=('a', 'b'))
        assert loaded['meta'] == (known if 'message_hub' in content else {})
    torch.save(dict(meta={}, message_hub=hub, progress=hub), path)
    loaded = load_from_local(path)
    assert loaded['progress'] == {}
    assert loaded['message_hub'] == dict(
        log_scalars={}, runtime_info=known, resumed_keys=dict(number=True)
    )
    torch.save(dict(meta={}, message_hub='x'), path)
    assert load_from_local(path)['message_hub']['runtime_info'] == {}


@pytest.fixture
def serve(tmp_path):
    """Serves files by path: bytes, and what it says their length is."""
    files, asked = {}, []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            content, length = files[self.path]
            self.send_response(200)
            self.send_header('Content-Length', str(length))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}', files, asked
    server.shutdown()


def saved(value):
    file = io.BytesIO()
    torch.save(dict(state_dict=dict(x=torch.tensor(value))), file)
    return file.getvalue()


def test_a_download_is_of_its_address(serve, tmp_path, monkeypatch):
    """Two files of one name; half a file; a wrong hash; '..' as a name."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'home'))
    site, files, asked = serve
    for n in (1, 2):
        files[f'/{n}/best.pth'] = (saved(n), len(saved(n)))
        files[f'/best.pth?{n}'] = files[f'/{n}/best.pth']
    for address, expected in (
        ('1/best.pth', 1),
        ('2/best.pth', 2),
        ('best.pth?1', 1),
        ('best.pth?2', 2),
        ('1/best.pth', 1),
    ):
        loaded = CheckpointLoader.load_checkpoint(f'{site}/{address}')
        assert loaded['state_dict']['x'] == expected
    assert asked.count('/1/best.pth') == 1  # the second time it is here

    whole = saved(3)
    files['/x.pth'] = (whole[:-100], len(whole))
    files['/x-0123456789ab.pth'] = (whole, len(whole))
    files['/..'] = (whole, len(whole))
    for path, message in (
        ('x.pth', 'bytes came'),
        ('x-0123456789ab.pth', 'SHA-256 does not begin with 0123456789ab'),
    ):
        with pytest.raises(
            OSError, match=f'{path}.: not downloaded.*{message}'
        ):
            CheckpointLoader.load_checkpoint(f'{site}/{path}')
    files['/x.pth'] = (whole, len(whole))
    loaded = CheckpointLoader.load_checkpoint(f'{site}/x.pth')
    assert loaded['state_dict']['x'] == 3
    CheckpointLoader.load_checkpoint(f'{site}/..')
    home = tmp_path / 'home'
    kept = [p for p in home.rglob('*') if p.is_file()]
    assert len(kept) == 6
    assert {p.parent for p in kept} == {home / 'hub/checkpoints'}


def test_what_is_published_still_loads(tmp_path):
    """By MMEngine, NumPy, argparse; in protocol 4, by PyTorch before 1.6."""
    from argparse import Namespace
    from collections import Counter, OrderedDict, defaultdict

    from mmengine.config import ConfigDict
    from mmengine.logging import HistoryBuffer

    weights = OrderedDict(
        a=torch.nn.Parameter(torch.arange(6.0).view(2, 3).T),
        half=torch.ones(3, dtype=torch.float16),
        brain=torch.ones(3, dtype=torch.bfloat16),
        flags=torch.tensor([True, False]),
        whole=torch.arange(3),
        empty=torch.zeros(0, 2),
        scalar=torch.tensor(2.5),
        repeated=torch.ones(1, 1).expand(3, 4),
        view=torch.arange(10.0)[3:7],
    )
    weights['tied'] = weights['a']
    weights._metadata = OrderedDict(head=dict(version=2), odd=3)
    history = HistoryBuffer([1.0, 2.0], [1, 1])
    checkpoint = dict(
        state_dict=weights,
        meta=dict(epoch=np.int64(3), iter=7, cfg='model = dict()'),
        message_hub=dict(
            log_scalars=dict(loss=history),
            runtime_info=dict(best_score=np.float32(0.5), epoch=3),
            resumed_keys=dict(loss=True, best_score=True),
        ),
        optimizer=dict(
            state={0: dict(step=torch.tensor(3.0))},
            param_groups=[dict(betas=(0.9, 0.95), lr=1e-3, nesterov=None)],
        ),
        args=Namespace(lr=1e-3),
        settings=ConfigDict(a=1),
        array=np.arange(6, dtype=np.float32).reshape(2, 3),
        fortran=np.asfortranarray(np.arange(6).reshape(2, 3)),
        texts=np.array(['a']),
        counted=Counter(a=2),
        defaults=defaultdict(int, b=3),
        odd=[{1, 2}, torch.float32, b'x', Path('x'), torch.Size((1, 2))],
    )
    path = tmp_path / 'x.pth'
    saves = [dict(), dict(pickle_protocol=4)]
    saves.append(dict(_use_new_zipfile_serialization=False))
    for how in saves:
        torch.save(checkpoint, path, **how)
        loaded = load_from_local(path)
        check_plain(loaded)
        assert list(loaded['state_dict']) == list(weights)
        for key, value in weights.items():
            got = loaded['state_dict'][key]
            assert torch.equal(got, value.data) and got.dtype == value.dtype
            assert got.stride() == value.stride()
        assert loaded['state_dict']._metadata == dict(head=dict(version=2))
        # Shared memory is shared, and can be changed.
        loaded['state_dict']['a'].zero_()
        assert loaded['state_dict']['tied'].abs().sum() == 0
        assert loaded['meta'] == dict(
            epoch=3, iter=7, config_text='model = dict()'
        )
        assert type(loaded['meta']['epoch']) is int
        assert loaded['message_hub'] == dict(
            log_scalars={},
            runtime_info=dict(best_score=0.5, epoch=3),
            resumed_keys=dict(best_score=True),
        )
        assert loaded['optimizer'] == checkpoint['optimizer']
        assert not {'args', 'settings', 'texts'} & loaded.keys()
        assert torch.equal(
            loaded['array'], torch.from_numpy(checkpoint['array'])
        )
        assert torch.equal(loaded['fortran'], torch.arange(6).view(2, 3))
        assert loaded['counted'] == dict(a=2)
        assert loaded['defaults'] == dict(b=3)
        assert loaded['odd'] == [None, None, None, None, (1, 2)]


def test_dtypes_without_a_storage_of_their_own(tmp_path):
    """PyTorch pickles them in another way."""
    weights = {
        str(kind): torch.arange(4).to(kind)
        for kind in (torch.float8_e4m3fn, torch.uint16, torch.complex64)
        if hasattr(torch, str(kind).removeprefix('torch.'))
    }
    torch.save(weights, tmp_path / 'x.pth')
    loaded = load_from_local(tmp_path / 'x.pth')
    for key, value in weights.items():
        assert loaded[key].dtype == value.dtype
        assert torch.equal(loaded[key].float(), value.float())


def test_on_another_device_what_was_shared_still_is(tmp_path):
    a = torch.arange(8.0)
    torch.save(dict(a=a, b=[a[2:4]]), tmp_path / 'x.pth')
    loaded = load_from_local(tmp_path / 'x.pth', 'meta')
    assert loaded['a'].device.type == 'meta'
    assert loaded['b'][0].storage_offset() == 2
    assert loaded['b'][0]._is_view() == loaded['a']._is_view()
    assert (
        loaded['b'][0].untyped_storage()._cdata
        == loaded['a'].untyped_storage()._cdata
    )
    for place in (None, 'cpu', torch.device('cpu'), lambda s, _: s, {}):
        loaded = load_from_local(tmp_path / 'x.pth', place)
        assert torch.equal(loaded['b'][0], a[2:4])


def test_the_ways_in(trained, photos, tmp_path):
    """The raw bytes that become an object, through every entrance."""
    run = tmp_path / 'run'
    run.mkdir()
    path = run / 'iter_1.pth'
    replace_meta(trained, path, CALLS['an object array out of raw bytes'])
    cfg = config(photos, tmp_path / 'other', iters=1)
    cfg.load_from = str(path)
    pretrained = dict(type='Pretrained', checkpoint=str(path))
    for enter in (
        lambda: load_from_local(path),
        lambda: CheckpointLoader.load_checkpoint(str(path)),
        lambda: SAIMViT(init_cfg=pretrained).init_weights(),
        lambda: SAIMViT(init_cfg=[pretrained]).init_weights(),
        lambda: train(cfg),
    ):
        with pytest.raises(ValueError, match='numpy.ndarray'):
            enter()
    code, output = call(
        *(sys.executable, 'tools/converters/convert.py', path),
        *(tmp_path / 'x.pth', '--to', 'timm'),
    )
    assert code == 2 and 'numpy.ndarray' in output


def test_structs_are_what_they_say():
    """The builders of this file build what they are meant to."""
    import pickle

    import numpy.core.multiarray  # noqa: F401

    value = pickle.loads(b'\x80\x02' + struct_of("x = 'y'") + b'.')
    assert value['config'] == "x = 'y'" and 'config' in list(value.item())
    assert struct.calcsize('<i') == 4
