"""SAIMViT in mmdet: configs, real runs, bad input."""

import json
import math
import runpy
import sys

import mmdet.registry
import numpy as np
import pytest
import torch
from helpers import ROOT, TINY, call, in_process, scalars, write_config
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import (
    PARAM_SCHEDULERS,
    DefaultScope,
    init_default_scope,
)
from PIL import Image

from saim_mm import SAIMRunner
from saim_mm.detection import COCOFormat, MultiBlockFPN
from saim_mm.utils import ops

FOLDER = 'configs/detection/'
PAPERS = FOLDER + 'mask-rcnn_saim-vit-base-p16_{}_8xb8-amp-lsj-100e_coco.py'
VITDET = PAPERS.format('vitdet')
LI2021 = PAPERS.format('li2021')
OWN = (
    FOLDER
    + 'mask-rcnn_saim-vit-small-p16_vitdet_1xb4-amp-lsj-50e_coco-format.py'
)
SMALL = FOLDER + '{}_saim-vit-192x4-p8_vitdet_{}.py'
SCENES = SMALL.format('mask-rcnn', '1xb8-coslr-6e_digit-scenes')
CELLS = SMALL.format('faster-rcnn', '1xb4-coslr-12e_bccd')
TABLE_8 = [
    str(p.relative_to(ROOT)) for p in (ROOT / FOLDER).glob('*_8xb8-*.py')
]


@pytest.fixture(autouse=True)
def in_mmdet(monkeypatch):
    monkeypatch.setattr(DefaultScope, '_instance_dict', {})
    init_default_scope('mmdet')


@pytest.fixture(scope='session')
def scenes(tmp_path_factory):
    """Eight and four scenes of digits, as a user's own data are."""
    out = tmp_path_factory.mktemp('scenes')
    argv, sys.argv = sys.argv, ['digit_scenes.py', '--out', str(out)]
    try:
        runpy.run_path(
            str(ROOT / 'tools/dataset_converters/digit_scenes.py'),
            run_name='__main__',
        )
    finally:
        sys.argv = argv
    for split, number in dict(train=8, val=4).items():
        edit(out / f'{split}.json', lambda x, n=number: cut(x, n))
    return out


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def cut(content, number):
    content['images'] = content['images'][:number]
    content['annotations'] = [
        a for a in content['annotations'] if a['image_id'] <= number
    ]


def options(scenes, checkpoint):
    """Of a run that takes seconds."""
    result = {
        'model.backbone.arch': dict(_delete_=True, **TINY),
        'model.backbone.window_size': 3,
        'model.backbone.use_rel_pos': True,
        'model.backbone.init_cfg.checkpoint': str(checkpoint),
        'model.neck.in_channels': 24,
        'train_dataloader.dataset.data_root': str(scenes),
        'val_dataloader.dataset.data_root': str(scenes),
        'test_dataloader.dataset.data_root': str(scenes),
        'train_dataloader.batch_size': 4,
        'train_cfg.max_epochs': 1,
        'train_cfg.val_interval': 1,
        'default_hooks.logger.interval': 1,
    }
    return in_process(result)


def config(path, work_dir, values):
    cfg = Config.fromfile(path)
    cfg.merge_from_dict(values)
    cfg.work_dir = str(work_dir)
    return cfg


def build(cfg):
    return mmdet.registry.MODELS.build(cfg.model)


@pytest.mark.parametrize('path', TABLE_8)
def test_detection_is_table_8(path):
    cfg = Config.fromfile(path)
    epochs = int(path.split('-')[-1].split('e_')[0])
    assert 8 * cfg.train_dataloader.batch_size == 64
    assert cfg.auto_scale_lr.base_batch_size == 64
    assert cfg.train_cfg.max_epochs == epochs
    resize, crop = cfg.train_dataloader.dataset.pipeline[3:5]
    assert resize.scale == crop.crop_size == (1024, 1024)
    assert tuple(resize.ratio_range) == (0.1, 2.0)
    # Where the image's patches are on the map, they are in testing, too.
    (test,) = (
        t for t in cfg.test_dataloader.dataset.pipeline if t.type == 'Resize'
    )
    assert test.scale == (1024, 1024)
    assert cfg.model.data_preprocessor.pad_size_divisor == 1024
    pad = mmdet.registry.MODELS.build(cfg.model.data_preprocessor)
    for training in (True, False):
        data = demo_mm_inputs(
            2, [(3, 768, 1024), (3, 90, 60)], num_items=[2, 1], with_mask=True
        )
        batch = pad(data, training)
        assert batch['inputs'].shape == (2, 3, 1024, 1024)
        for sample in batch['data_samples'] if training else ():
            assert sample.gt_instances.masks.masks.shape[1:] == (1024, 1024)
    warm_up, cosine = cfg.param_scheduler
    assert (warm_up.end, cosine.begin, cosine.end) == (0.25, 0.25, epochs)
    assert 'T_max' not in cosine  # the whole way, from begin to end

    large = 'large' in path
    backbone = cfg.model.backbone
    assert backbone.img_size == 1024
    assert backbone.interpolate_mode == 'bilinear'
    assert backbone.drop_path_rate == (0.4 if large else 0.1)
    backbone.init_cfg = None
    with torch.device('meta'):
        model = build(cfg)
    if large:
        return
    windows = [layer.attn.window_size for layer in model.backbone.layers]
    if 'li2021' in path:
        assert windows == [0] * 12
        assert model.backbone.out_indices == [2, 5, 8, 11]
        assert isinstance(model.neck, MultiBlockFPN)
    else:
        assert windows == [14, 14, 0] * 4
        assert model.backbone.layers[0].attn.rel_pos_h.shape == (27, 64)
        assert model.backbone.layers[2].attn.rel_pos_h.shape == (127, 64)
    assert len(model.rpn_head.rpn_conv) == 2
    assert len(model.roi_head.bbox_head.shared_convs) == 4
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    cfg.optim_wrapper.type = 'OptimWrapper'  # no GPU here
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    names = {p: name for name, p in model.named_parameters()}
    for group in optimizer.param_groups:
        assert group['lr'] == 8e-5 and group['betas'] == (0.9, 0.99)
        for parameter in group['params']:
            name = names.pop(parameter)
            plain = parameter.ndim == 1 or 'pos' in name
            assert group['weight_decay'] == (0 if plain else 0.1), name
    assert not names


@pytest.mark.parametrize(
    'path',
    sorted(
        str(p.relative_to(ROOT))
        for p in (ROOT / FOLDER).glob('*.py')
        if '8xb8' not in p.name
    ),
)
def test_config_builds(path):
    cfg = Config.fromfile(path)
    assert cfg.runner_type == 'SAIMRunner' and cfg.default_scope == 'mmdet'
    cfg.model.backbone.init_cfg = None
    with torch.device('meta'):
        model = build(cfg)
    assert model.roi_head.with_mask == ('mask-rcnn' in path)
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        assert loader.dataset.type == 'COCOFormat'
        for step in loader.dataset.pipeline:
            mmdet.registry.TRANSFORMS.build(step)


def test_layer_decay_is_one_option():
    cfg = Config.fromfile(VITDET)
    cfg.merge_from_dict(
        {
            'optim_wrapper.paramwise_cfg.layer_decay_rate': 0.7,
            'optim_wrapper.type': 'OptimWrapper',
            'model.backbone.init_cfg': None,
        }
    )
    with torch.device('meta'):
        model = build(cfg)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    rates = {p: g['lr'] for g in optimizer.param_groups for p in g['params']}
    for name, parameter in model.named_parameters():
        if name.startswith('backbone.layers.'):
            depth = 12 - int(name.split('.')[2])
        else:
            depth = 13 if name.startswith('backbone.') else 0
        assert rates[parameter] == pytest.approx(8e-5 * 0.7**depth), name


def test_warm_up_is_a_quarter_of_an_epoch():
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=8e-5)
    warm_up, cosine = (
        PARAM_SCHEDULERS.build(
            x, default_args=dict(optimizer=optimizer, epoch_length=1832)
        )
        for x in Config.fromfile(VITDET).param_scheduler
    )
    assert (warm_up.begin, warm_up.end) == (0, 458)
    assert (cosine.begin, cosine.end, cosine.T_max) == (458, 183200, 182742)


@pytest.mark.parametrize('path', [VITDET, LI2021])
def test_forward_on_a_small_image(path):
    """Both forms, in training and in inference, on two odd sizes."""
    cfg = Config.fromfile(path)
    cfg.merge_from_dict(
        {
            'model.backbone.arch': dict(_delete_=True, **TINY),
            'model.backbone.img_size': 64,
            'model.backbone.init_cfg': None,
            'model.neck.in_channels': 24,
            'model.data_preprocessor.pad_size_divisor': 32,
            # Of 512 and 1,000 boxes everything else takes longer.
            'model.train_cfg.rcnn.sampler.num': 32,
            'model.test_cfg.rpn.max_per_img': 100,
        }
    )
    cfg.model.backbone.update(
        dict(out_indices=[0, 1, 2, 3])
        if path == LI2021
        else dict(window_size=3)
    )
    model = build(cfg)
    data = demo_mm_inputs(
        2, [(3, 50, 91), (3, 70, 40)], num_items=[3, 0], with_mask=True
    )
    losses = model(**model.data_preprocessor(data, True), mode='loss')
    total, _ = model.parse_losses(losses)
    total.backward()
    assert total.isfinite()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
    model.eval()
    with torch.no_grad():
        predicted = model(
            **model.data_preprocessor(data, False), mode='predict'
        )
    assert len(predicted) == 2
    assert predicted[0].pred_instances.masks.shape[1:] == (50, 91)


def test_train_test_and_infer(scenes, checkpoint, run, tmp_path):
    """mim's and our entrances, TTA and mmdet's inferencer."""
    work_dir = tmp_path / 'run'
    file = write_config(
        config(SCENES, work_dir, options(scenes, checkpoint)), work_dir
    )
    code, output = call(
        'mim',
        'train',
        'mmdetection',
        file,
        '--gpus',
        0,
        '--work-dir',
        work_dir,
    )
    assert code == 0, output
    # What detection adds to the checkpoint, and nothing else, is named.
    assert 'layers.0.attn.rel_pos_h' in output
    assert 'Table' not in output
    trained = [x for x in scalars(work_dir) if 'loss_mask' in x]
    assert len(trained) == 2
    assert all(math.isfinite(x['loss']) for x in trained)
    assert all(x['images_per_second'] > 0 for x in trained)
    tested = [x for x in scalars(work_dir) if 'coco/segm_mAP' in x]
    assert len(tested) == 1 and 0 <= tested[0]['coco/bbox_mAP'] <= 1

    weights = work_dir / 'epoch_1.pth'
    shown = tmp_path / 'shown'
    code, output = run(
        'test.py',
        file,
        weights,
        '--work-dir',
        work_dir,
        '--show-dir',
        shown,
    )
    assert code == 0, output
    assert 'segm_mAP' in output
    assert len(list(shown.rglob('*.jpg')) + list(shown.rglob('*.png'))) == 4

    out = tmp_path / 'out'
    code, output = run(
        'visualization/predictions.py',
        *(file, weights, scenes / 'val' / '0001.jpg', '--out', out),
        *('--score', 0, '--device', 'cpu'),
    )
    assert code == 0, output
    assert (out / 'vis' / '0001.jpg').exists()
    found = json.loads((out / 'preds' / '0001.json').read_text())
    assert set(found) == {'labels', 'scores', 'bboxes', 'masks'}


@pytest.mark.slow
def test_own_data_with_two_processes(scenes, checkpoint, tmp_path):
    """The README's config for one's own data, with small images."""
    values = options(scenes, checkpoint)
    values['train_dataloader.batch_size'] = 2
    values['optim_wrapper.type'] = 'OptimWrapper'
    values['model.backbone.img_size'] = 160
    values['model.backbone.patch_size'] = 8
    for head in ('bbox_head', 'mask_head'):
        values[f'model.roi_head.{head}.num_classes'] = 10
    cfg = config(OWN, tmp_path / 'two', values)
    cfg.model.train_cfg.rpn_proposal.max_per_img = 50
    cfg.model.train_cfg.rcnn.sampler.num = 16
    cfg.model.test_cfg.rpn.max_per_img = 50
    cfg.model.data_preprocessor.pad_size_divisor = 160
    resize, crop = cfg.train_dataloader.dataset.pipeline[3:5]
    resize.scale = crop.crop_size = (160, 160)
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.pipeline[1].scale = (160, 160)
    code, output = call(
        *('tools/dist_train.sh', write_config(cfg, tmp_path / 'two'), 2),
        *('--work-dir', tmp_path / 'two'),
    )
    assert code == 0, output
    assert 'No GPU: the processes train on CPUs, through gloo' in output
    logged = scalars(tmp_path / 'two')
    assert sum('loss_mask' in x for x in logged) == 2
    assert 'coco/segm_mAP' in logged[-1]


def test_boxes_only(scenes, checkpoint, tmp_path):
    """The cells' config, on images of which one has no box."""
    data = tmp_path / 'data'
    data.mkdir()
    for name in ('train', 'val'):
        (data / name).symlink_to(scenes / name)
        (data / f'{name}.json').write_text(
            (scenes / f'{name}.json').read_text()
        )
    (data / 'test').symlink_to(scenes / 'val')
    (data / 'test.json').write_text((scenes / 'val.json').read_text())
    edit(
        data / 'train.json',
        lambda x: x.update(
            annotations=[a for a in x['annotations'] if a['image_id'] != 2]
        ),
    )
    values = options(data, checkpoint)
    values['model.roi_head.bbox_head.num_classes'] = 10
    runner = SAIMRunner.from_cfg(config(CELLS, tmp_path / 'run', values))
    runner.train()
    assert len(runner.train_dataloader.dataset) == 8
    metrics = runner.test()
    assert set(metrics) >= {'coco/bbox_mAP', 'coco/bbox_mAP_50'}
    assert 'coco/segm_mAP' not in metrics


def test_test_time_augmentation(scenes, checkpoint, run, tmp_path):
    """As README says for Mask R-CNN: of the boxes."""
    cfg = config(SCENES, tmp_path, options(scenes, checkpoint))
    for resize, scale in zip(
        cfg.tta_pipeline[1].transforms[0], (96, 160, 200)
    ):
        resize.scale = (scale, scale)
    file = write_config(cfg, tmp_path)
    torch.save(dict(state_dict=build(cfg).state_dict()), tmp_path / 'x.pth')
    code, output = run(
        'test.py',
        file,
        tmp_path / 'x.pth',
        '--tta',
        '--cfg-options',
        'model.roi_head.mask_head=None',
        'test_evaluator.metric=bbox',
        f'work_dir={tmp_path}',
    )
    assert code == 0, output
    assert 'bbox_mAP' in output and 'segm_mAP' not in output


def zoo(name):
    """A backbone of mmpretrain's zoo, with weights as its checkpoints."""
    from mmpretrain.registry import MODELS

    kind = dict(
        mae=dict(type='MAEViT', mask_ratio=0.75),
        mocov3=dict(type='MoCoV3ViT', stop_grad_conv1=True),
        deit=dict(type='DistilledVisionTransformer'),
    )[name]
    kind['arch'] = TINY
    return MODELS.build(
        dict(**kind, img_size=224, patch_size=16, _scope_='mmpretrain')
    )


@pytest.mark.parametrize('name', ['mae', 'mocov3', 'deit'])
def test_other_methods_checkpoints_by_one_line(name, tmp_path):
    """mmpretrain's MAE, MoCo v3 and DeiT go into ViTDet's config."""
    source = zoo(name)
    path = tmp_path / f'{name}.pth'
    weights = {f'backbone.{k}': v for k, v in source.state_dict().items()}
    torch.save(dict(state_dict=weights), path)
    cfg = Config.fromfile(VITDET)
    cfg.model.backbone.init_cfg.checkpoint = str(path)
    backbone = cfg.model.backbone
    backbone.arch = source.arch_settings
    model = mmdet.registry.MODELS.build(backbone)
    model.init_weights()
    loaded = model.state_dict()
    for key, value in loaded.items():
        if '.rel_pos_' in key:
            assert not value.any()
        elif key != 'pos_embed':
            assert torch.equal(value, weights[f'backbone.{key}']), key
    extra = source.num_extra_tokens
    grid = source.pos_embed[:, extra:].transpose(1, 2).unflatten(2, (14, 14))
    expected = torch.nn.functional.interpolate(
        grid, (64, 64), mode='bilinear'
    ).flatten(2)
    assert torch.allclose(model.pos_embed, expected.transpose(1, 2))


def dataset(root, **arguments):
    return COCOFormat(
        'train.json',
        str(root),
        data_prefix=dict(img='train/'),
        **arguments,
    )


@pytest.fixture
def own(scenes, tmp_path):
    (tmp_path / 'train').symlink_to(scenes / 'train')
    file = tmp_path / 'train.json'
    file.write_text((scenes / 'train.json').read_text())
    return tmp_path


def test_classes_are_those_of_the_file(own):
    edit(
        own / 'train.json',
        lambda x: x.update(
            categories=[
                dict(id=c['id'], name=f'digit {c["name"]}')
                for c in x['categories'][::-1]
            ]
        ),
    )
    data = dataset(own)
    assert data.metainfo['classes'][0] == 'digit 9'
    truth = json.loads((own / 'train.json').read_text())
    names = {c['id']: c['name'] for c in truth['categories']}
    for item in data:
        labels = [
            data.metainfo['classes'][i['bbox_label']]
            for i in item['instances']
        ]
        assert labels == [
            names[a['category_id']]
            for a in truth['annotations']
            if a['image_id'] == item['img_id']
        ]
    some = dataset(own, metainfo=dict(classes=('digit 1', 'digit 3')))
    assert some.metainfo['classes'] == ('digit 3', 'digit 1')  # as the file
    for item, all_of in zip(some, data):
        assert [
            some.metainfo['classes'][i['bbox_label']]
            for i in item['instances']
        ] == [
            name
            for i in all_of['instances']
            if (name := data.metainfo['classes'][i['bbox_label']])
            in ('digit 1', 'digit 3')
        ]


def test_boxes_outside_the_image(own, capsys):
    def change(content):
        boxes = [[-50, 0, 40, 40], [150, 150, 40, 40], [3, 3, 0, 5]]
        for annotation, box in zip(content['annotations'], boxes):
            annotation.update(bbox=box, area=0)

    before = sum(len(i['instances']) for i in dataset(own))
    edit(own / 'train.json', change)
    data = dataset(own)
    assert sum(len(i['instances']) for i in data) == before - 2
    assert data.dropped == {
        'outside the image, or under a pixel: left out': 2,
        'partly outside the image: cut': 1,
    }
    assert data[0]['instances'][0]['bbox'] == [150, 150, 160, 160]


@pytest.mark.parametrize(
    ('change', 'error', 'message'),
    [
        (lambda x: x.clear(), ValueError, "it has no .'images'"),
        (
            lambda x: x.update(images=[]),
            ValueError,
            'must name at least one of "images"; its list is empty',
        ),
        (
            lambda x: x.update(annotations=[]),
            ValueError,
            'none of its 8 has a box',
        ),
        (
            lambda x: x['images'][0].update(file_name='gone.jpg'),
            FileNotFoundError,
            'gone.jpg: no such file, though dataset.ann_file=',
        ),
    ],
)
def test_bad_annotations(own, change, error, message):
    edit(own / 'train.json', change)
    with pytest.raises(error, match=message):
        dataset(own, filter_cfg=dict(filter_empty_gt=True))


def first(part, **values):
    """A change of the first entry; None takes a value out."""

    def change(content):
        entry = content[part][0]
        entry.update(values)
        for name in [n for n, value in entry.items() if value is None]:
            del entry[name]

    return change


def twice(part):
    return lambda x: x[part].append(dict(x[part][0]))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (first('annotations', bbox=None), r"annotations\[0\].*\['bbox'\]"),
        (first('annotations', bbox=[1, 2, '3', 4]), r'annotation 1: bbox='),
        (first('annotations', bbox=[1, 2, 3]), r'annotation 1: bbox='),
        (first('annotations', bbox=[math.nan, 2, 3, 4]), 'bbox=.nan, 2'),
        (first('annotations', image_id='1'), "image_id='1': must be one of"),
        (first('annotations', image_id=[1]), r'image_id=\[1\]: must be one'),
        (first('annotations', category_id=99), 'category_id=99: must be one'),
        (first('annotations', segmentation='x'), "segmentation='x': must be"),
        (first('annotations', segmentation=[1, 2, 3, 4]), 'list of polygons'),
        (
            first('annotations', segmentation=dict(size=[9, 9], counts=[81])),
            r"'size': \[9, 9\].*size=\[160, 160\], \(height, width\)",
        ),
        (first('images', width=0), 'image 1: width=0: must be pixels'),
        (first('images', file_name=None), r"images\[0\].*\['file_name'\]"),
        (first('categories', name=None), r"categories\[0\].*\['name'\]"),
        (first('categories', name='1'), "name='1': must be of one class only"),
        (lambda x: x.update(categories=['a']), r"categories\[0\]='a': must"),
        (lambda x: x.update(annotations=None), "annotations='NoneType'"),
        (lambda x: x.update(annotations=[]), 'none of its 8 has a box'),
        (twice('images'), r'images\[8\].id=1: must be a number of this entry'),
        (twice('annotations'), r'annotations\[\d+\].id=1: must be'),
        (twice('categories'), r'categories\[10\].id=.*: must be'),
    ],
)
def test_bad_entries(own, change, message):
    """What mmdet would lose in silence, or end in the middle of."""
    edit(own / 'train.json', change)
    with pytest.raises(ValueError, match=message) as error:
        dataset(own)
    assert "ann_file='train.json'" in str(error.value)


def test_images_that_a_camera_has_turned(scenes, tmp_path):
    """Boxes of the pixels as stored would lie elsewhere."""
    tag = Image.Exif()
    tag[274] = 6  # a quarter to the right
    pixels = Image.open(scenes / 'train/0001.jpg').crop((0, 0, 160, 120))
    (tmp_path / 'train').mkdir()
    pixels.save(tmp_path / 'train/a.jpg', exif=tag)
    for size, good in (((160, 120), False), ((120, 160), True)):
        content = dict(
            images=[
                dict(id=1, file_name='a.jpg', width=size[0], height=size[1])
            ],
            annotations=[dict(id=1, image_id=1, category_id=1, bbox=[9] * 4)],
            categories=[dict(id=1, name='a')],
        )
        (tmp_path / 'train.json').write_text(json.dumps(content))
        if good:
            load = [dict(type='LoadImageFromFile')]
            item = dataset(tmp_path, pipeline=load)[0]
            assert item['img'].shape[:2] == (item['height'], item['width'])
        else:
            with pytest.raises(ValueError, match='a.jpg: is shown.*EXIF'):
                dataset(tmp_path)


def test_masks_are_asked_for_where_they_are_learned(own):
    edit(own / 'train.json', first('annotations', segmentation=None))
    steps = [dict(type='LoadAnnotations', with_bbox=True)]
    assert dataset(own, pipeline=steps)
    steps[0]['with_mask'] = True
    with pytest.raises(ValueError, match='segmentation=None.*Faster R-CNN'):
        dataset(own, pipeline=steps)


def test_classes_in_another_order(scenes, checkpoint, tmp_path):
    """Named before an epoch is spent, and by the checkpoint in testing."""
    data = tmp_path / 'data'
    data.mkdir()
    for name in ('train', 'val', 'train.json'):
        (data / name).symlink_to(scenes / name)
    file = data / 'val.json'
    file.write_text((scenes / 'val.json').read_text())
    edit(file, lambda x: x['categories'].reverse())
    values = options(data, checkpoint)
    runner = SAIMRunner.from_cfg(config(SCENES, tmp_path / 'a', values))
    with pytest.raises(ValueError, match="val_data.*class 0='9': must be '0'"):
        runner.train()
    assert runner.iter == 0

    values['val_dataloader.dataset.ann_file'] = 'train.json'
    values['val_dataloader.dataset.data_prefix.img'] = 'train/'
    SAIMRunner.from_cfg(config(SCENES, tmp_path / 'a', values)).train()
    cfg = config(SCENES, tmp_path / 'b', values)
    cfg.load_from = str(tmp_path / 'a/epoch_1.pth')
    with pytest.raises(ValueError, match='test_dataloader.*in the same order'):
        SAIMRunner.from_cfg(cfg).test()


def test_bad_files(own):
    with pytest.raises(FileNotFoundError, match='there is no file .*x.json'):
        COCOFormat('x.json', str(own))
    with pytest.raises(ValueError, match=r"classes=\['cat'\]: must be among"):
        dataset(own, metainfo=dict(classes='cat'))
    (own / 'train.json').write_text('')
    with pytest.raises(ValueError, match='it is not JSON'):
        dataset(own)


def test_float16_needs_a_gpu(scenes, checkpoint, tmp_path):
    values = options(scenes, checkpoint)
    values['optim_wrapper.type'] = 'AmpOptimWrapper'
    with pytest.raises(
        ValueError, match=r'OptimWrapper \(float32\) or =BFloat16OptimWrapper$'
    ):
        SAIMRunner.from_cfg(config(SCENES, tmp_path, values)).train()


def test_bfloat16(scenes, checkpoint, tmp_path, monkeypatch):
    """Trains, and boxes keep their coordinates to the pixel."""
    values = options(scenes, checkpoint)
    values['optim_wrapper.type'] = 'BFloat16OptimWrapper'
    runner = SAIMRunner.from_cfg(config(SCENES, tmp_path, values))
    seen = []
    forward = ops.roi_align_forward

    def look(features, rois, *args, **kwargs):
        seen.append((features.dtype, rois.dtype))
        forward(features, rois, *args, **kwargs)

    monkeypatch.setattr(sys.modules[ops.NAME], 'roi_align_forward', look)
    runner.train()
    assert set(seen) == {(torch.float32, torch.float32)}
    losses, _ = runner.message_hub.get_scalar('train/loss_mask').data
    assert len(losses) >= 2 and all(map(math.isfinite, losses))


def test_number_of_classes(scenes, checkpoint, tmp_path):
    values = options(scenes, checkpoint)
    values['model.roi_head.mask_head.num_classes'] = 3
    with pytest.raises(
        ValueError,
        match=r'model.roi_head.mask_head.num_classes=3: must be 10',
    ):
        SAIMRunner.from_cfg(config(SCENES, tmp_path, values)).train()


def test_checkpoint_without_an_encoder(scenes, checkpoint, tmp_path):
    path = tmp_path / 'x.pth'
    torch.save(dict(state_dict={'head.weight': torch.ones(1)}), path)
    values = options(scenes, path)
    with pytest.raises(
        ValueError, match=r"no weights that begin with 'backbone.'"
    ):
        SAIMRunner.from_cfg(config(SCENES, tmp_path, values)).train()


def test_voc_converter(tmp_path, monkeypatch, capsys):
    root = tmp_path / 'voc'
    for folder in ('JPEGImages', 'Annotations', 'ImageSets/Main'):
        (root / folder).mkdir(parents=True)
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(
        root / 'JPEGImages' / 'a.jpg'
    )
    box = (
        '<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin>'
        '<xmax>{}</xmax><ymax>{}</ymax></bndbox></object>'
    )
    (root / 'Annotations' / 'a.xml').write_text(
        '<annotation><size><width>30</width><height>20</height></size>'
        + box.format('dog', 1, 1, 30, 20)
        + box.format('cat', 11, 6, 40, 10)
        + box.format('cat', 5, 5, 5, 5)
        + '</annotation>'
    )
    (root / 'ImageSets' / 'Main' / 'train.txt').write_text('a\n')
    out = tmp_path / 'coco'
    monkeypatch.setattr(sys, 'argv', ['voc.py', str(root), str(out)])
    runpy.run_path('tools/dataset_converters/voc.py', run_name='__main__')
    assert '1 images, 2 boxes of 2 classes (cat, dog); 1 boxes' in (
        capsys.readouterr().out
    )
    data = COCOFormat('train.json', str(out), data_prefix=dict(img='train/'))
    assert data.metainfo['classes'] == ('cat', 'dog')
    assert [(i['bbox_label'], i['bbox']) for i in data[0]['instances']] == [
        (1, [0, 0, 30, 20]),
        (0, [10, 5, 30, 10]),
    ]
    (root / 'Annotations' / 'a.xml').write_text('<annotation>')
    with pytest.raises(SystemExit, match='a.xml: must be an annotation'):
        runpy.run_path('tools/dataset_converters/voc.py', run_name='__main__')
