"""Nothing that is loaded runs, and nothing outside the data is read."""

import http.server
import os
import struct
import sys
import threading
import zipfile
from pathlib import Path

import pytest
import torch
from helpers import call, config, in_process, train
from mmengine.config import Config
from mmengine.runner import CheckpointLoader

from saim_mm import SAIMRunner, SAIMViT, UnlabelledImages
from saim_mm.checkpoint import loader
from saim_mm.checkpoint.loader import load_from_local
from saim_mm.checkpoint.sharded import REST
from saim_mm.utils.check import check_within_root

FINETUNE = 'configs/classification/vit-demo-p4_1xb50-coslr-100e_digits.py'


class Planted:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), 'w'))


@pytest.fixture
def planted(tmp_path):
    """A checkpoint with code, and the file that the code would write."""
    path, evidence = tmp_path / 'iter_9.pth', tmp_path / 'evidence'
    torch.save(dict(state_dict={}, meta=Planted(evidence)), path)
    return path, evidence


@pytest.fixture
def site(tmp_path):
    """Serves the folder on this computer."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=tmp_path)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()


def test_no_way_runs_a_planted_pickle(planted, site, photos, monkeypatch):
    path, evidence = planted
    monkeypatch.setenv('TORCH_HOME', str(path.parent / 'home'))
    work_dir = path.parent

    def resumed():
        train(config(photos, work_dir, iters=1), resume=True)

    def loaded():
        cfg = config(photos, work_dir, iters=1)
        cfg.load_from = str(path)
        train(cfg)

    def initialised():
        SAIMViT(
            init_cfg=dict(type='Pretrained', checkpoint=f'{site}/{path.name}')
        ).init_weights()

    def converted():
        code, output = call(
            *(sys.executable, 'tools/converters/convert.py', path),
            *(path.with_name('x.pth'), '--to', 'timm'),
        )
        assert code == 2 and 'Python objects' in output
        raise ValueError('holds Python objects')

    for load in (
        lambda: load_from_local(path),
        lambda: CheckpointLoader.load_checkpoint(str(path)),
        lambda: CheckpointLoader.load_checkpoint(f'{site}/{path.name}'),
        loaded,
        initialised,
        converted,
    ):
        with pytest.raises(ValueError, match='holds Python objects'):
            load()
        assert not evidence.exists()
    for address in ('s3://a/b.pth', 'petrel://x.pth', 'pavi://x', 'mmcls://x'):
        with pytest.raises(ValueError, match='download the file'):
            CheckpointLoader.load_checkpoint(address)
    monkeypatch.setitem(
        loader.ZOOS,
        'torchvision',
        lambda: dict(planted=f'{site}/{path.name}'),
    )
    with pytest.raises(ValueError, match='holds Python objects'):
        CheckpointLoader.load_checkpoint('torchvision://planted')
    with pytest.raises(ValueError, match="must be one of .'planted'"):
        CheckpointLoader.load_checkpoint('torchvision://resnet5')
    with pytest.raises(ValueError, match='none of its 1 checkpoints can be'):
        resumed()
    assert not evidence.exists()


def test_no_getattr(tmp_path):
    """By which a pickle could reach every builtin, and replace it."""
    harmless, path = tmp_path / 'harmless.pth', tmp_path / 'planted.pth'
    torch.save({}, harmless)

    def text(value):
        return b'X' + struct.pack('<I', len(value)) + value.encode()

    def attribute(owner, name):
        return b'cbuiltins\ngetattr\n' + owner + text(name) + b'\x86R'

    builtin = attribute(b'cbuiltins\ngetattr\n', '__self__')
    for code in (builtin, attribute(attribute(builtin, '__dict__'), 'pop')):
        pickled = b'\x80\x02' + code + b'.'
        with (
            zipfile.ZipFile(harmless) as old,
            zipfile.ZipFile(path, 'w', zipfile.ZIP_STORED) as new,
        ):
            for name in old.namelist():
                is_pickle = name.endswith('data.pkl')
                new.writestr(name, pickled if is_pickle else old.read(name))
        with pytest.raises(ValueError, match='holds Python objects'):
            load_from_local(path)


def test_no_config_is_run(photos, tmp_path):
    """MMEngine runs the text of ``meta['config']`` when it resumes."""
    run = tmp_path / 'run'
    train(config(photos, run, iters=1))
    saved = load_from_local(run / 'iter_1.pth')
    evidence = tmp_path / 'evidence'
    saved['meta']['config'] = f"open({str(evidence)!r}, 'w')"
    torch.save(saved, run / 'iter_1.pth')
    train(config(photos, run, iters=2), resume=True)
    assert (run / 'iter_2.pth').is_file() and not evidence.exists()


def test_folders_run_nothing(planted):
    """Those of fsdp."""
    path, evidence = planted
    folder = path.with_name('iter_10.pth')
    folder.mkdir()
    path.rename(folder / REST)
    with pytest.raises(ValueError, match='holds Python objects'):
        load_from_local(folder)
    assert not evidence.exists()


def test_a_good_file_comes_by_http(request, site, tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'home'))
    good = request.getfixturevalue('checkpoint')
    (tmp_path / 'good.pth').write_bytes(good.read_bytes())
    weights = CheckpointLoader.load_checkpoint(f'{site}/good.pth')
    torch.testing.assert_close(
        weights['state_dict'], load_from_local(good)['state_dict']
    )
    (tmp_path / 'good.pth').unlink()  # the second time it is here
    CheckpointLoader.load_checkpoint(f'{site}/good.pth')


@pytest.mark.parametrize(
    'path, inside',
    [
        ('data/a.jpg', True),
        ('data/b/../a.jpg', True),
        ('data/../secret.jpg', False),
        ('data/b/../../../etc/passwd', False),
        ('/etc/passwd', False),
        ('database/a.jpg', False),
    ],
)
def test_check_inside(path, inside):
    if inside:
        check_within_root(path, 'data/', 'ann_file')
    else:
        with pytest.raises(ValueError, match='ann_file names .*within'):
            check_within_root(path, 'data/', 'ann_file')


def test_lists_cannot_name_what_is_outside(photos, tmp_path):
    outside = tmp_path / 'secret.jpg'
    outside.write_bytes(sorted(photos.iterdir())[0].read_bytes())
    data = tmp_path / 'data'
    data.mkdir()
    names = [path.name for path in sorted(photos.iterdir())[:4]]
    for name in names:
        (data / name).symlink_to(photos / name)
    for line in ('../secret.jpg', str(outside)):
        listed = tmp_path / 'list.txt'
        listed.write_text('\n'.join([*names, line]))
        with pytest.raises(ValueError, match="list.txt' names .*secret.jpg"):
            UnlabelledImages(data_root=str(data), ann_file=str(listed))

        listed.write_text('\n'.join(f'{name} 1' for name in [*names, line]))
        cfg = Config.fromfile(FINETUNE)
        cfg.model.backbone.init_cfg = None
        cfg.train_dataloader.dataset.update(
            data_root=str(data), data_prefix='', ann_file=str(listed)
        )
        cfg.train_dataloader.dataset.metainfo = dict(
            classes=[str(n) for n in range(10)]
        )
        cfg.merge_from_dict(in_process({}))
        cfg.work_dir = str(tmp_path / 'run')
        cfg.experiment_name = cfg.visualizer.name = f'lists{len(line)}'
        with pytest.raises(ValueError, match="list.txt' names .*secret.jpg"):
            SAIMRunner.from_cfg(cfg).train()


@pytest.mark.parametrize('kind', ['pipe', 'device'])
def test_what_never_ends_is_not_read(kind, tmp_path):
    path = Path('/dev/zero')
    if kind == 'pipe':
        path = tmp_path / 'weights.pth'
        os.mkfifo(path)
    with pytest.raises(ValueError, match='must be a regular file'):
        load_from_local(path)
