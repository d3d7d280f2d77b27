"""SAIMViT in mmseg: configs, real runs, bad input."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ROOT, TINY, call, in_process, scalars, write_config
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope, init_default_scope
from PIL import Image

from saim_mm import SAIMRunner

try:
    import mmseg.registry
except ImportError as error:
    pytest.skip(f'segmentation needs mmseg: {error}', allow_module_level=True)

from saim_mm.segmentation import ImageLabelFolders

FOLDER = 'configs/segmentation/saim-vit-'
ADE = FOLDER + 'base-p16_upernet_8xb2-amp-160k_ade20k-512x512.py'
OWN = FOLDER + 'small-p16_upernet_1xb8-amp-20k_folders-512x512.py'
CAMVID = FOLDER + '192x4-p8_{}_camvid-240x320.py'
UPERNET = CAMVID.format('upernet_1xb8-600i')
LINEAR = CAMVID.format('linear_1xb8-200i')
CONFIGS = sorted(
    str(p.relative_to(ROOT))
    for p in (ROOT / 'configs/segmentation').glob('*.py')
)


@pytest.fixture(autouse=True)
def in_mmseg(monkeypatch):
    monkeypatch.setattr(DefaultScope, '_instance_dict', {})
    init_default_scope('mmseg')


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def scene(classes, height, width, seed):
    """Squares of colours that tell the class."""
    random = np.random.default_rng(seed)
    labels = random.integers(classes, size=(height // 16 + 1, width // 16 + 1))
    labels = labels.repeat(16, 0).repeat(16, 1)[:height, :width]
    labels = labels.astype(np.uint8)
    step = 255 // classes
    return np.stack([labels * step, 255 - labels * step, labels], -1), labels


@pytest.fixture
def folders(tmp_path):
    """Three classes, images of several formats and odd sizes."""
    root = tmp_path / 'data'
    for split, number in dict(train=4, val=2).items():
        for i in range(number):
            pixels, labels = scene(3, 70 + i, 93 - i, i)
            labels[:5] = 255
            suffix = ('png', 'jpg')[i % 2]
            write(root / 'images' / split / f'{i}.{suffix}', pixels)
            write(root / 'annotations' / split / f'{i}.png', labels)
    (root / 'classes.txt').write_text('ground\nplant\n\nsky\n')
    return root


def options(root, checkpoint, classes=3):
    """Of a run that takes seconds."""
    result = {
        'model.backbone.arch': dict(_delete_=True, **TINY),
        'model.backbone.patch_size': 8,
        'model.backbone.img_size': 64,
        'model.backbone.out_indices': [0, 1, 2, 3],
        'model.backbone.init_cfg.checkpoint': str(checkpoint),
        'model.data_preprocessor.size': (64, 64),
        'model.neck.embed_dim': 24,
        'model.decode_head.in_channels': [24] * 4,
        'model.decode_head.channels': 16,
        'model.decode_head.num_classes': classes,
        'model.auxiliary_head.in_channels': 24,
        'model.auxiliary_head.channels': 16,
        'model.auxiliary_head.num_classes': classes,
        'model.test_cfg.crop_size': (64, 64),
        'model.test_cfg.stride': (43, 43),
        'train_dataloader.batch_size': 2,
        'train_dataloader.dataset.data_root': str(root),
        'val_dataloader.dataset.data_root': str(root),
        'test_dataloader.dataset.data_root': str(root),
        'optim_wrapper.type': 'OptimWrapper',
        'train_cfg.max_iters': 4,
        'train_cfg.val_interval': 4,
        'default_hooks.logger.interval': 1,
        'default_hooks.checkpoint.interval': 4,
    }
    return in_process(result)


def config(path, work_dir, values):
    cfg = Config.fromfile(path)
    cfg.merge_from_dict(values)
    cfg.work_dir = str(work_dir)
    for step in cfg.train_dataloader.dataset.pipeline:
        if step.type == 'RandomResize':
            step.scale = (128, 64)
        if step.type == 'RandomCrop':
            step.crop_size = (64, 64)
    for step in cfg.val_dataloader.dataset.pipeline:
        if step.type == 'Resize':
            step.scale = (128, 64)
    return cfg


def build(cfg):
    cfg.model.backbone.init_cfg = None
    return revert_sync_batchnorm(mmseg.registry.MODELS.build(cfg.model))


@pytest.mark.parametrize('path', CONFIGS)
def test_config_builds(path):
    cfg = Config.fromfile(path)
    assert cfg.runner_type == 'SAIMRunner' and cfg.default_scope == 'mmseg'
    with torch.device('meta'):
        model = build(cfg)
    frozen = not any(p.requires_grad for p in model.backbone.parameters())
    assert frozen == ('linear' in path)
    if frozen:
        assert {n for n, p in model.named_parameters() if p.requires_grad} == {
            'decode_head.conv_seg.weight',
            'decode_head.conv_seg.bias',
        }


def test_ade20k_is_table_9():
    cfg = Config.fromfile(ADE)
    assert 8 * cfg.train_dataloader.batch_size == 16
    assert cfg.auto_scale_lr.base_batch_size == 16
    assert cfg.train_cfg.max_iters == 160_000
    warm_up, poly = cfg.param_scheduler
    assert (warm_up.end, poly.begin, poly.end) == (1500, 1500, 160_000)
    assert poly.type == 'PolyLR' and poly.power == 1 and poly.eta_min == 0
    (crop,) = (
        step
        for step in cfg.train_dataloader.dataset.pipeline
        if step.type == 'RandomCrop'
    )
    backbone = cfg.model.backbone
    assert crop.crop_size == cfg.model.data_preprocessor.size == (512, 512)
    assert backbone.img_size == 512
    assert backbone.interpolate_mode == 'bilinear'
    assert backbone.drop_path_rate == 0.1
    assert cfg.model.decode_head.num_classes == 150

    model = build(cfg)
    assert all(
        layer.attn.window_size == 0 and not layer.attn.use_rel_pos
        for layer in model.backbone.layers
    )
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    names = {p: name for name, p in model.named_parameters()}
    for group in optimizer.param_groups:
        assert group['betas'] == (0.9, 0.99)
        for parameter in group['params']:
            name = names.pop(parameter)
            if name.startswith('backbone.layers.'):
                depth = 12 - int(name.split('.')[2])
            else:
                depth = 13 if name.startswith('backbone.') else 0
            assert group['lr'] == pytest.approx(4e-4 * 0.65**depth), name
            plain = parameter.ndim == 1 or 'pos_embed' in name
            plain |= 'cls_token' in name
            assert group['weight_decay'] == (0 if plain else 0.05), name
    assert not names


@pytest.fixture
def ade(tmp_path):
    """ADE20K's real layout, 0: void, and all its 150 classes."""
    root = tmp_path / 'ade' / 'ADEChallengeData2016'
    for split, number in dict(training=2, validation=1).items():
        for i in range(number):
            pixels, labels = scene(151, 16 * 12, 16 * 15, i)
            write(root / 'images' / split / f'ADE_{i}.jpg', pixels)
            write(root / 'annotations' / split / f'ADE_{i}.png', labels)
    return root


def test_ade20k(ade, checkpoint, tmp_path):
    values = options(ade, checkpoint, classes=150)
    runner = SAIMRunner.from_cfg(config(ADE, tmp_path / 'run', values))
    runner.train()
    losses = runner.message_hub.get_scalar('train/loss').data[0]
    assert len(losses) == 4 and np.isfinite(losses).all()
    assert runner.message_hub.get_scalar('val/mIoU').current() >= 0
    assert len(runner.train_dataloader.dataset.metainfo['classes']) == 150


@pytest.mark.parametrize('size', [(64, 64), (70, 93), (50, 131), (17, 20)])
def test_whole_and_sliding_inference(folders, checkpoint, size):
    """Equal on an image of the crop's size; any size works."""
    predictions = []
    for mode in ('slide', 'whole'):
        values = options(folders, checkpoint)
        values['model.test_cfg.mode'] = mode
        torch.manual_seed(0)
        model = build(config(OWN, '', values)).eval()
        image = torch.randn(
            1, 3, *size, generator=torch.Generator().manual_seed(0)
        )
        meta = dict(img_shape=size, ori_shape=size, pad_shape=size)
        with torch.no_grad():
            predictions.append(model.inference(image, [meta]))
    slide, whole = predictions
    assert slide.shape == whole.shape == (1, 3, *size)
    if size == (64, 64):
        torch.testing.assert_close(slide, whole)
    else:
        assert slide.isfinite().all() and whole.isfinite().all()


def test_train_test_and_infer(folders, checkpoint, run, tmp_path):
    """mim's and our entrances, several scales and flips, the inferencer."""
    work_dir = tmp_path / 'run'
    values = options(folders, checkpoint)
    values['train_cfg.max_iters'] = values['train_cfg.val_interval'] = 20
    values['default_hooks.checkpoint.interval'] = 20
    # Its warm-up takes longer than this.
    values['param_scheduler'] = []
    values['optim_wrapper.optimizer.lr'] = 3e-3
    file = write_config(config(OWN, work_dir, values), work_dir)
    code, output = call(
        *('mim', 'train', 'mmsegmentation', file, '--gpus', 0),
        *('--work-dir', work_dir),
    )
    assert code == 0, output
    trained = [x for x in scalars(work_dir) if 'loss' in x]
    assert all(x['images_per_second'] > 0 for x in trained)
    losses = [x['loss'] for x in trained]
    # Running means, of which the first is of one batch.
    assert len(losses) == 20 and sum(losses[-5:]) < sum(losses[1:6])

    shown = tmp_path / 'shown'
    code, output = run(
        *('test.py', file, work_dir / 'iter_20.pth'),
        *('--work-dir', work_dir, '--show-dir', shown, '--tta'),
    )
    assert code == 0, output
    assert 'mIoU' in output
    assert len(list(shown.rglob('*.png'))) == 2

    out = tmp_path / 'out'
    code, output = run(
        'visualization/predictions.py',
        *(file, work_dir / 'iter_20.pth', folders / 'images' / 'val'),
        *('--out', out, '--device', 'cpu'),
    )
    assert code == 0, output
    assert len(list((out / 'vis').iterdir())) == 2
    labels = min((out / 'pred').glob('*.png'))
    assert np.asarray(Image.open(labels)).shape == (70, 93)


def test_a_linear_head_on_the_frozen_encoder(folders, checkpoint, tmp_path):
    values = options(folders, checkpoint)
    for name in [n for n in values if 'neck' in n or 'auxiliary' in n]:
        del values[name]
    del values['model.decode_head.channels']  # the sum of in_channels
    cfg = config(LINEAR, tmp_path, values)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.update(void=[], metainfo=None)
    cfg.test_dataloader = cfg.val_dataloader
    runner = SAIMRunner.from_cfg(cfg)
    runner.train()
    assert runner.message_hub.get_scalar('val/mIoU').current() >= 0
    before = torch.load(checkpoint, weights_only=True)['state_dict']
    for name, value in runner.model.backbone.state_dict().items():
        if name != 'pos_embed':
            assert torch.equal(value, before[f'backbone.{name}']), name


@pytest.mark.slow
def test_two_processes(folders, checkpoint, tmp_path):
    """SyncBN, of which there is none on CPUs, included."""
    work_dir = tmp_path / 'two'
    file = write_config(
        config(OWN, work_dir, options(folders, checkpoint)), work_dir
    )
    code, output = call('tools/dist_train.sh', file, 2, '--work-dir', work_dir)
    assert code == 0, output
    assert sum('loss' in x for x in scalars(work_dir)) == 4


def dataset(root, **arguments):
    step = dict(type='LoadCheckedAnnotations')
    return ImageLabelFolders(
        data_root=str(root),
        data_prefix=dict(
            img_path='images/train', seg_map_path='annotations/train'
        ),
        pipeline=[dict(type='LoadImageFromFile'), step],
        **arguments,
    )


def test_classes_and_void(folders):
    data = dataset(folders)
    assert data.metainfo['classes'] == ('ground', 'plant', 'sky')
    assert len(data) == 4
    assert data[1]['img'].shape[:2] == data[1]['gt_seg_map'].shape == (71, 92)
    two = dataset(folders, metainfo=dict(classes=('a', 'b')), void=[2])
    before, after = data[0]['gt_seg_map'], two[0]['gt_seg_map']
    assert np.array_equal(after, np.where(before == 2, 255, before))


def test_crops_of_void_alone(folders, checkpoint, tmp_path):
    for path in (folders / 'annotations' / 'train').iterdir():
        labels = np.asarray(Image.open(path))
        write(path, np.full_like(labels, 255))
    values = options(folders, checkpoint)
    runner = SAIMRunner.from_cfg(config(OWN, tmp_path / 'run', values))
    runner.train()
    losses = runner.message_hub.get_scalar('train/loss').data[0]
    assert losses.tolist() == [0.0] * 4
    assert all(p.isfinite().all() for p in runner.model.parameters())


def test_bad_labels(folders):
    first = folders / 'annotations' / 'train' / '0.png'
    good = np.asarray(Image.open(first))
    for array, message in (
        (np.where(good == 1, 7, good), r'0.png: labels must be 0 to 2.*\[7\]'),
        (good[:-1], r'0.png: must have the size of its image .*\(70, 93\)'),
        (np.stack([good] * 3, -1), '0.png: must have one channel'),
    ):
        write(first, array.astype(np.uint8))
        with pytest.raises(ValueError, match=message):
            dataset(folders)[0]
    first.write_bytes(b'no image')
    with pytest.raises(ValueError, match='0.png: must be a readable label'):
        dataset(folders)[0]
    first.unlink()
    with pytest.raises(FileNotFoundError, match='0.png: no such label map'):
        dataset(folders)


def test_a_list_of_images(folders):
    listed = folders / 'train.txt'
    listed.write_text('2\n\n1.jpg\n')
    names = [
        Path(x['img_path']).name
        for x in dataset(folders, ann_file='train.txt')
    ]
    assert names == ['2.png', '1.jpg']
    listed.write_text('2\nseven')
    with pytest.raises(ValueError, match="train.txt.*must name.*'seven'"):
        dataset(folders, ann_file='train.txt')
    with pytest.raises(FileNotFoundError, match='ann_file=.*gone.txt'):
        dataset(folders, ann_file='gone.txt')
    assert len(dataset(folders, img_suffix='.jpg')) == 2
    with pytest.raises(ValueError, match='names that end in .webp'):
        dataset(folders, img_suffix='.webp')


def test_label_maps_of_other_names(folders):
    for path in (folders / 'annotations/train').iterdir():
        path.rename(path.with_name(f'{path.stem}_labels.png'))
    assert len(dataset(folders, seg_map_suffix='_labels.png')) == 4


def test_endings_in_place_of_others(folders):
    """As some data sets have it: 0_sat.png, 0_mask.png."""
    for folder, ending in (('images', 'sat'), ('annotations', 'mask')):
        for path in (folders / folder / 'train').glob('*.png'):
            path.rename(path.with_name(f'{path.stem}_{ending}.png'))
    endings = dict(img_suffix='_sat.png', seg_map_suffix='_mask.png')
    names = [Path(x['seg_map_path']).name for x in dataset(folders, **endings)]
    assert names == ['0_mask.png', '2_mask.png']
    with pytest.raises(ValueError, match="seg_map_path='?None'?: must be a"):
        ImageLabelFolders(
            str(folders), dict(img_path='images/train'), pipeline=[]
        )


def test_zero_is_void(folders):
    """As ADE20K has it; void is of the labels in the files."""
    before = [item['gt_seg_map'] for item in dataset(folders)]
    two = dict(metainfo=dict(classes=('plant', 'sky')), reduce_zero_label=True)
    for old, item in zip(before, dataset(folders, **two)):
        expected = np.where((old == 0) | (old == 255), 255, old - 1)
        assert np.array_equal(item['gt_seg_map'], expected)
    for old, item in zip(before, dataset(folders, void=[2], **two)):
        expected = np.where(old == 1, 0, 255)
        assert np.array_equal(item['gt_seg_map'], expected)


def test_labels_of_more_than_eight_bits(folders):
    """mmseg would keep the lower eight of them."""
    first = folders / 'annotations/train/0.png'
    labels = np.asarray(Image.open(first)).astype(np.uint16)
    write(first, labels)
    assert np.array_equal(dataset(folders)[0]['gt_seg_map'], labels)
    write(first, labels * 256)
    with pytest.raises(
        ValueError, match=r'0.png: .*holds \[256, 512.*0 to 255'
    ):
        dataset(folders)[0]


def test_names_of_classes_in_a_file(folders):
    file = folders / 'classes.txt'
    file.write_text('ground\nplant\nsky', 'utf-8-sig')
    assert dataset(folders).metainfo['classes'][0] == 'ground'
    file.write_bytes('gr\xfcn\n'.encode('latin-1'))
    with pytest.raises(ValueError, match='classes.txt: must be UTF-8'):
        dataset(folders)
    file.write_text('\n')
    with pytest.raises(ValueError, match='classes.txt.: must be a file with'):
        dataset(folders)


def test_an_image_alone(folders, checkpoint, tmp_path):
    values = options(folders, checkpoint)
    values['train_dataloader.batch_size'] = 1
    with pytest.raises(ValueError, match='batch_size=1: must be 2 or more'):
        SAIMRunner.from_cfg(config(OWN, tmp_path, values)).train()


def test_bad_folders(folders, tmp_path):
    with pytest.raises(FileNotFoundError, match='there is no folder'):
        dataset(tmp_path / 'nothing', metainfo=dict(classes=('a',)))
    (folders / 'classes.txt').unlink()
    with pytest.raises(FileNotFoundError, match='classes.txt, a line for'):
        dataset(folders)
    for path in (folders / 'images' / 'train').iterdir():
        path.unlink()
    with pytest.raises(ValueError, match='img_path=.*must be a folder with'):
        dataset(folders, metainfo=dict(classes=('a',)))


def test_number_of_classes(folders, checkpoint, tmp_path):
    values = options(folders, checkpoint, classes=5)
    with pytest.raises(
        ValueError, match=r'model.decode_head.num_classes=5: must be 3'
    ):
        SAIMRunner.from_cfg(config(OWN, tmp_path, values)).train()


def test_the_same_checkpoint_serves_every_task(checkpoint):
    """Of pre-training: unchanged in a classifier, UperNet and ViTDet."""
    pretrained = dict(
        type='Pretrained', checkpoint=str(checkpoint), prefix='backbone.'
    )
    weights = torch.load(checkpoint, weights_only=True)['state_dict']
    for path, arguments in (
        ('classification/vit-base-p16_8xb128-amp-coslr-100e_in1k.py', {}),
        (UPERNET.removeprefix('configs/'), dict(img_size=(48, 64))),
        (
            'detection/faster-rcnn_saim-vit-192x4-p8_vitdet_1xb4-coslr-12e_'
            'bccd.py',
            dict(img_size=48),
        ),
    ):
        cfg = Config.fromfile(f'configs/{path}').model.backbone
        cfg.update({'arch': TINY, 'img_size': 32, 'patch_size': 8})
        cfg.update({**arguments, 'init_cfg': pretrained})
        cfg.update(out_indices=-1)
        backbone = mmseg.registry.MODELS.build(cfg)
        backbone.init_weights()
        for name, value in backbone.state_dict().items():
            if name != 'pos_embed':
                assert torch.equal(value, weights[f'backbone.{name}']), name


def test_camvid_converter(tmp_path, monkeypatch, capsys):
    root, out = tmp_path / 'CamVid', tmp_path / 'camvid'
    for split in ('train', 'val'):
        pixels, labels = scene(12, 360, 480, 0)
        write(root / split / 'a.png', pixels)
        write(root / f'{split}annot' / 'a.png', labels)
    command = ['camvid.py', str(root), str(out)]
    monkeypatch.setattr(sys, 'argv', command)
    tool = 'tools/dataset_converters/camvid.py'
    runpy.run_path(tool, run_name='__main__')
    cfg = Config.fromfile(UPERNET).train_dataloader.dataset
    cfg.update(data_root=str(out), pipeline=cfg.pipeline[:2])
    (item,) = mmseg.registry.DATASETS.build(cfg)
    assert item['img'].shape == (240, 320, 3)
    assert set(np.unique(item['gt_seg_map'])) == {*range(11), 255}
    (root / 'valannot' / 'a.png').unlink()
    with pytest.raises(SystemExit):
        runpy.run_path(tool, run_name='__main__')
    assert 'a.png: no such label map' in capsys.readouterr().err


def test_classes_of_the_checkpoint_itself(folders, checkpoint, run, tmp_path):
    """As README's recipe: N classes by --cfg-options, then the bare config."""
    work_dir = tmp_path / 'run'
    values = options(folders, checkpoint)
    SAIMRunner.from_cfg(config(OWN, work_dir, values)).train()
    trained = work_dir / 'iter_4.pth'
    values = options(folders, checkpoint, classes=150)
    file = write_config(config(OWN, tmp_path / 'bare', values), tmp_path)
    command = ('test.py', file)
    code, output = run(*command, trained, '--work-dir', tmp_path / 'test')
    assert code == 0 and 'mIoU' in output, output
    assert "The checkpoint's own config says: model." in output
    assert 'model.decode_head.num_classes=3' in output
    code, output = run(
        *('visualization/predictions.py', file),
        *(trained, folders / 'images/val', '--out', tmp_path / 'out'),
        *('--device', 'cpu'),
    )
    assert code == 0, output
    assert len(list((tmp_path / 'out/vis').iterdir())) == 2

    # What is said otherwise, or cannot be known, is refused.
    code, output = run(
        *(*command, trained, '--cfg-options'),
        'model.decode_head.num_classes=4',
    )
    assert code != 0, output
    assert 'decode_head.conv_seg' in output
    assert '--cfg-options model.decode_head.num_classes=3' in output
    for tool in ('test.py', 'visualization/predictions.py'):
        images = (folders / 'images/val',) if 'predictions' in tool else ()
        code, output = run(tool, file, checkpoint, *images)
        assert code != 0 and 'lacks' in output, output
        assert 'Traceback' not in output
        assert not (tmp_path / 'predictions').exists()
