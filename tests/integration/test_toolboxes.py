"""The toolboxes' own tools and classes on this package's models.

docs/toolboxes.md is the table of them: what it says works is run here, and
what it says upstream breaks is seen to break as it says.
"""

import json
import re
import shutil
from functools import cached_property
from pathlib import Path

import mmpretrain
import numpy as np
import pytest
import torch
from helpers import ROOT, TINY, in_process, tiles
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from PIL import Image

import saim_mm
from saim_mm.checkpoint import zoo

CONFIGS = dict(
    mmpretrain='classification/vit-mini-p4_1xb128-coslr-5e_cifar10',
    mmdet='detection/mask-rcnn_saim-vit-192x4-p8_vitdet_1xb8-coslr-6e_'
    'digit-scenes',
    mmseg='segmentation/saim-vit-192x4-p8_upernet_1xb8-600i_camvid-240x320',
)


def classes_of(folder, photos):
    """Two classes: pieces of one photograph, and of the other."""
    for split, start in dict(train=0, test=8).items():
        for number in (0, 1):
            pieces = sorted(photos.glob(f'{number}_*'))
            (folder / split / f'photo {number}').mkdir(parents=True)
            for piece in pieces[start : start + 8]:
                target = folder / split / f'photo {number}' / piece.name
                target.symlink_to(piece)
    (folder / 'one.jpg').symlink_to(piece)


def boxes_of(folder):
    """Bright and dark rectangles, with masks, in COCO's format."""
    random = np.random.default_rng(0)
    for split in ('train', 'val'):
        (folder / split).mkdir(parents=True)
        images, annotations = [], []
        for number in range(4):
            pixels = random.integers(90, 160, (160, 160, 3), np.uint8)
            for label in (0, 1):
                x, y, w, h = map(int, random.integers(20, 70, 4))
                pixels[y : y + h, x : x + w] = 255 * label
                annotations.append(
                    dict(
                        id=len(annotations) + 1,
                        image_id=number,
                        category_id=label + 1,
                        bbox=[x, y, w, h],
                        area=w * h,
                        iscrowd=0,
                        segmentation=[
                            [x, y, x + w, y, x + w, y + h, x, y + h]
                        ],
                    )
                )
            name = f'{number}.png'
            Image.fromarray(pixels).save(folder / split / name)
            images.append(
                dict(id=number, file_name=name, width=160, height=160)
            )
        content = dict(
            images=images,
            annotations=annotations,
            categories=[
                dict(id=n + 1, name=name, supercategory='box')
                for n, name in enumerate(('dark', 'bright'))
            ],
        )
        (folder / f'{split}.json').write_text(json.dumps(content))


def maps_of(folder):
    """Squares of eleven grays, as CamVid's folders."""
    random = np.random.default_rng(0)
    for split in ('train', 'val'):
        for part in ('images', 'annotations'):
            (folder / part / split).mkdir(parents=True)
        for number in range(4):
            labels = random.integers(11, size=(3, 4), dtype=np.uint8)
            labels = labels.repeat(16, 0).repeat(16, 1)
            Image.fromarray(labels).save(
                folder / 'annotations' / split / f'{number}.png'
            )
            pixels = np.stack([labels * 23] * 3, -1)
            Image.fromarray(pixels).save(
                folder / 'images' / split / f'{number}.png'
            )


def options(toolbox, data):
    """Of a training that takes a second or two."""
    values = {'model.backbone.arch': dict(_delete_=True, **TINY)}
    values['model.backbone.init_cfg'] = None
    for name in ('train', 'val', 'test'):
        values[f'{name}_dataloader.dataset.data_root'] = str(data)
        values[f'{name}_dataloader.batch_size'] = 4
    values['default_hooks.logger.interval'] = 1
    values['train_cfg.val_interval'] = 9
    values['param_scheduler'] = []
    if toolbox == 'mmpretrain':
        values['model.backbone.patch_size'] = 8
        values['model.head.in_channels'] = 24
        values['model.head.num_classes'] = 2
        values['data_preprocessor.num_classes'] = 2
    elif toolbox == 'mmdet':
        values['model.neck.in_channels'] = 24
        for head in ('bbox_head', 'mask_head'):
            values[f'model.roi_head.{head}.num_classes'] = 2
        values['model.test_cfg.rcnn.max_per_img'] = 10
    else:
        values['model.backbone.img_size'] = (48, 64)
        values['model.data_preprocessor.size'] = (48, 64)
        values['model.neck.embed_dim'] = 24
        values['model.decode_head.in_channels'] = [24] * 4
        values['model.auxiliary_head.in_channels'] = 24
    return in_process(values)


class Trained:
    """A tiny model of a toolbox, trained by its own script."""

    def __init__(self, toolbox, run, folder, make_data):
        self.toolbox, self.run, self.folder = toolbox, run, folder
        self.data = folder / 'data'
        make_data(self.data)
        cfg = Config.fromfile(f'configs/{CONFIGS[toolbox]}.py')
        cfg.merge_from_dict(options(toolbox, self.data))
        cfg.work_dir = str(folder / 'work')
        if toolbox == 'mmseg':
            cfg.train_cfg.max_iters = 2
            cfg.default_hooks.checkpoint.interval = 2
            for step in cfg.train_dataloader.dataset.pipeline:
                if step.type == 'RandomResize':
                    step.scale = (64, 48)
                if step.type == 'RandomCrop':
                    step.crop_size = (48, 64)
        else:
            cfg.train_cfg.max_epochs = 2
        self.config = folder / 'config.py'
        cfg.dump(self.config)
        self('train.py', '{config}')
        self.checkpoint = max(Path(cfg.work_dir).glob('*_2.pth'))
        (self.log,) = Path(cfg.work_dir).glob('*/vis_data/scalars.json')

    @cached_property
    def results(self):
        """Of its test script: a file, or a folder of mmseg's label maps."""
        name = 'results' if self.toolbox == 'mmseg' else 'results.pkl'
        out = self.folder / name
        words = ['{config}', '{checkpoint}', '--out', out]
        if self.toolbox == 'mmdet':
            prefix = f'test_evaluator.outfile_prefix={self.folder}/results'
            words += ['--cfg-options', prefix]
        self('test.py', *words)
        return out

    @cached_property
    def elsewhere(self):
        """The config, where the data are not."""
        text = self.config.read_text()
        path = self.folder / 'elsewhere.py'
        path.write_text(text.replace(str(self.data), '/nowhere/data'))
        assert '/nowhere/data' in path.read_text()
        return path

    def attempt(self, script, *arguments):
        """Run its script; names in braces stand for attributes."""
        return self.run(
            'toolbox.py',
            *(self.toolbox, script),
            *(str(word).format(self=self, **vars(self)) for word in arguments),
        )

    def __call__(self, script, *arguments):
        code, output = self.attempt(script, *arguments)
        assert code == 0, output
        return output


@pytest.fixture(scope='session')
def classifier(run, tmp_path_factory):
    photos = tiles(tmp_path_factory.mktemp('pieces') / 'x', 32)
    return Trained(
        'mmpretrain',
        run,
        tmp_path_factory.mktemp('mmpretrain'),
        lambda data: classes_of(data, photos),
    )


@pytest.fixture(scope='session')
def detector(run, tmp_path_factory):
    return Trained('mmdet', run, tmp_path_factory.mktemp('mmdet'), boxes_of)


@pytest.fixture(scope='session')
def segmentor(run, tmp_path_factory):
    return Trained('mmseg', run, tmp_path_factory.mktemp('mmseg'), maps_of)


@pytest.fixture
def trained(request):
    """By its toolbox."""
    name = dict(mmpretrain='classifier', mmdet='detector', mmseg='segmentor')[
        request.param
    ]
    return request.getfixturevalue(name)


CONFIG, CHECKPOINT = '{config}', '{checkpoint}'
OUT = '{folder}/out'
RESULTS = '{self.results}'
VIT_CAM = ('--vit-like', '--num-extra-tokens', 1, '--target-layers')
#: Toolbox, script, arguments, and what it says or writes; "slow" or what it
#: needs beside.
WORKS = [
    (
        'mmpretrain',
        'model_converters/publish_model.py',
        (CHECKPOINT, OUT + '/published.pth'),
        'published*.pth',
    ),
    (
        'mmdet',
        'model_converters/publish_model.py',
        (CHECKPOINT, OUT + '/published.pth'),
        'published*.pth',
    ),
    (
        'mmseg',
        'misc/publish_model.py',
        (CHECKPOINT, OUT + '/published.pth'),
        'published*.pth',
    ),
    ('mmpretrain', 'test.py', (CONFIG, CHECKPOINT, '--tta'), 'accuracy/top1'),
    (
        'mmpretrain',
        'analysis_tools/eval_metric.py',
        (RESULTS, '--metric', 'type=Accuracy', 'topk=1'),
        'accuracy/top1',
    ),
    (
        'mmpretrain',
        'analysis_tools/analyze_results.py',
        (CONFIG, RESULTS, '--out-dir', OUT, '--topk', 2),
        'success/*.png',
    ),
    (
        'mmpretrain',
        'analysis_tools/confusion_matrix.py',
        (CONFIG, RESULTS, '--show-path', OUT + '/matrix.png'),
        'matrix.png',
    ),
    (
        'mmpretrain',
        'analysis_tools/get_flops.py',
        (CONFIG, '--shape', 32),
        'Flops: ',
    ),
    (
        'mmpretrain',
        'analysis_tools/analyze_logs.py',
        ('plot_curve', '{log}', '--keys', 'loss', '--out', OUT + '.png'),
        '../out.png',
        'seaborn',
    ),
    (
        'mmpretrain',
        'analysis_tools/analyze_logs.py',
        ('cal_train_time', '{log}'),
        'average iter time',
    ),
    (
        'mmpretrain',
        'visualization/vis_tsne.py',
        (
            *(CONFIG, '--checkpoint', CHECKPOINT, '--work-dir', OUT),
            *('--vis-stage', 'backbone', '--perplexity', 3, '--n-iter', 250),
        ),
        '*/feat_3.png',
    ),
    (
        'mmpretrain',
        'visualization/vis_cam.py',
        (
            *('{data}/one.jpg', CONFIG, CHECKPOINT, *VIT_CAM),
            *('backbone.layers.3.ln1', '--save-path', OUT + '.png'),
        ),
        '../out.png',
        'pytorch_grad_cam',
    ),
    (
        'mmpretrain',
        'visualization/vis_scheduler.py',
        (
            *(CONFIG, '--not-show', '--dataset-size', 8),
            *('--save-path', OUT + '.png', '--cfg-options'),
            'optim_wrapper.constructor=DefaultOptimWrapperConstructor',
        ),
        '../out.png',
    ),
    (
        'mmpretrain',
        'misc/verify_dataset.py',
        (CONFIG, '--out-path', OUT + '/broken'),
        'There is no broken file found',
    ),
    ('mmpretrain', 'misc/print_config.py', (CONFIG,), "type='SAIMViT'"),
    (
        'mmpretrain',
        'kfold-cross-valid.py',
        (CONFIG, '--num-splits', 2, '--fold', 0, '--work-dir', OUT),
        'fold0/epoch_2.pth',
    ),
    (
        'mmdet',
        'analysis_tools/eval_metric.py',
        (CONFIG, RESULTS),
        'coco/segm_mAP',
    ),
    (
        'mmdet',
        'analysis_tools/analyze_results.py',
        (CONFIG, RESULTS, OUT, '--topk', 1),
        'good/*.png',
        'slow',
    ),
    (
        'mmdet',
        'analysis_tools/confusion_matrix.py',
        (CONFIG, RESULTS, OUT),
        'confusion_matrix.png',
    ),
    (
        'mmdet',
        'analysis_tools/coco_error_analysis.py',
        ('{self.results.parent}/results.bbox.json', OUT)
        + ('--ann', '{data}/val.json', '--types', 'bbox'),
        'bbox/bbox-allclass-allarea.png',
        'slow',
    ),
    (
        'mmdet',
        'analysis_tools/get_flops.py',
        (CONFIG, '--num-images', 1),
        'Flops: ',
    ),
    (
        'mmdet',
        'analysis_tools/analyze_logs.py',
        ('plot_curve', '{log}', '--keys', 'loss_mask', '--style', 'ggplot')
        + ('--out', OUT + '.png'),
        '../out.png',
        'seaborn',
    ),
    (
        'mmdet',
        'analysis_tools/analyze_logs.py',
        ('cal_train_time', '{log}'),
        'average iter time',
        'seaborn',
    ),
    (
        'mmdet',
        'analysis_tools/browse_dataset.py',
        (CONFIG, '--not-show', '--output-dir', OUT),
        '*.png',
    ),
    (
        'mmdet',
        'analysis_tools/benchmark.py',
        (CONFIG, '--task', 'dataset', '--max-iter', 3, '--num-warmup', 1),
        'Overall fps',
        'psutil',
    ),
    (
        'mmdet',
        'analysis_tools/benchmark.py',
        (CONFIG, '--task', 'dataloader', '--max-iter', 3, '--num-warmup', 1)
        + ('--cfg-options', 'test_dataloader.batch_size=1'),
        'Overall fps',
        'psutil',
    ),
    ('mmdet', 'misc/print_config.py', (CONFIG,), "type='SAIMViT'"),
    (
        'mmseg',
        'test.py',
        (CONFIG, CHECKPOINT, '--tta'),
        'mIoU',
        'slow',
    ),
    (
        'mmseg',
        'analysis_tools/confusion_matrix.py',
        (CONFIG, RESULTS, OUT),
        'confusion_matrix.png',
        'slow',
    ),
    (
        'mmseg',
        'analysis_tools/get_flops.py',
        (CONFIG, '--shape', 48, 64),
        'Flops: ',
    ),
    (
        'mmseg',
        'analysis_tools/analyze_logs.py',
        ('{log}', '--keys', 'loss', '--out', OUT + '.png'),
        '../out.png',
        'seaborn',
    ),
    (
        'mmseg',
        'analysis_tools/browse_dataset.py',
        (CONFIG, '--not-show', '--output-dir', OUT),
        '*.png',
    ),
    (
        'mmseg',
        'misc/browse_dataset.py',
        (CONFIG, '--not-show', '--output-dir', OUT),
        'vis_data/vis_image/*.png',
    ),
    (
        'mmseg',
        'analysis_tools/benchmark.py',
        (CONFIG, CHECKPOINT, '--work-dir', OUT),
        'Average fps',
    ),
    ('mmseg', 'misc/print_config.py', (CONFIG,), "type='SAIMViT'"),
]
#: What upstream breaks: toolbox, script, arguments, its last words.
BREAKS = [
    (
        'mmpretrain',
        'visualization/browse_dataset.py',
        (CONFIG, '--not-show', '--output-dir', OUT, '-n', 2),
        r"adjust_bbox\(\) missing 1 required positional argument: 'renderer'",
    ),
    (
        'mmpretrain',
        'visualization/vis_tsne.py',
        (
            *(CONFIG, '--checkpoint', CHECKPOINT, '--work-dir', OUT),
            *('--vis-stage', 'pre_logits', '--perplexity', 3),
            *('--n-iter', 250),
        ),
        'IndexError: list index out of range',
    ),
    (
        'mmdet',
        'analysis_tools/optimize_anchors.py',
        (CONFIG, '--device', 'cpu', '--output-dir', OUT),
        "no attribute 'bbox_head'",
    ),
    (
        'mmdet',
        'analysis_tools/fuse_results.py',
        ('{self.results.parent}/results.bbox.json', '--annotation')
        + ('{data}/val.json', '--out-dir', OUT),
        "no attribute 'models_name'",
    ),
    (
        'mmdet',
        'misc/get_image_metas.py',
        (CONFIG, '--out', OUT + '/metas.pkl'),
        'File name must be csv or txt suffix but get json',
    ),
    (
        'mmseg',
        'deployment/pytorch2torchscript.py',
        (CONFIG, '--output-file', OUT, '--shape', 48, 64),
        'test_cfg specified in both outer field and model field',
    ),
]


def cases(rows):
    for toolbox, script, arguments, expected, *rest in rows:
        marks = [pytest.mark.slow] if 'slow' in rest else []
        needs = [name for name in rest if name != 'slow']
        name = f'{toolbox}-{Path(script).stem}'
        yield pytest.param(
            *(toolbox, script, arguments, expected, needs),
            marks=marks,
            id=name,
        )


def prepared(trained):
    """An empty folder for what a script writes."""
    out = trained.folder / 'out'
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    out.with_suffix('.png').unlink(missing_ok=True)
    return out


@pytest.mark.parametrize(
    ('trained', 'script', 'arguments', 'expected', 'needs'),
    cases(WORKS),
    indirect=['trained'],
)
def test_works(trained, script, arguments, expected, needs):
    for name in needs:
        pytest.importorskip(name)
    out = prepared(trained)
    output = trained(script, *arguments)
    if not re.search(r'\.(png|jpg|pth)$', expected):
        assert expected in output
        return
    written = list(out.glob(expected))
    assert written, [str(p) for p in out.rglob('*')]
    if not expected.endswith('pth'):
        with Image.open(written[0]) as picture:
            assert np.asarray(picture).std() > 1  # shows something


@pytest.mark.parametrize(
    ('trained', 'script', 'arguments', 'expected', 'needs'),
    cases(BREAKS),
    indirect=['trained'],
)
def test_breaks(trained, script, arguments, expected, needs):
    """If one no longer does, say so in docs/toolboxes.md."""
    prepared(trained)
    code, output = trained.attempt(script, *arguments)
    assert code != 0 and re.search(expected, output), output


def test_the_table_is_this():
    """Every case is in the docs, with its script, and the other way round."""
    text = (ROOT / 'docs/toolboxes.md').read_text()
    for toolbox in CONFIGS:
        section = text.split(f'\n## {toolbox}\n')[1].split('\n## ')[0]
        rows = re.findall(r'^\| `([\w/-]+\.py)[^|]*\| (\w+)', section, re.M)
        works = {script for script, word in rows if word == 'works'}
        assert works == {
            script for name, script, *_ in WORKS if name == toolbox
        } | {'train.py', 'test.py'}
        breaks = {script for script, word in rows if word == 'fails'}
        assert breaks == {
            script for name, script, *_ in BREAKS if name == toolbox
        }


@pytest.fixture(autouse=True)
def scopes(monkeypatch):
    """Inferencers set the scope of the process."""
    monkeypatch.setattr(DefaultScope, '_instance_dict', {})


@pytest.mark.parametrize('name', zoo.bundled())
def test_mmpretrain_features(name, photos):
    """Its FeatureExtractor, by name, and ours: the same."""
    files = [str(path) for path in sorted(photos.iterdir())[:3]]
    theirs = mmpretrain.FeatureExtractor(name, pretrained=True)
    found = theirs(files)
    short = re.sub(r'(_stochastic)?_1xb.*', '', name)
    ours = saim_mm.FeatureExtractor(short, f'saim_mm://{name}')(files)
    torch.testing.assert_close(torch.stack([f[0] for f in found]), ours)
    assert (ours[0] - ours[1]).abs().max() > 0.01


def test_mmpretrain_inferencers(classifier):
    image = str(next((classifier.data / 'test').rglob('photo 1/*.jpg')))
    config, checkpoint = map(
        str, (classifier.elsewhere, classifier.checkpoint)
    )
    infer = mmpretrain.ImageClassificationInferencer(config, checkpoint)
    (found,) = infer(image)
    assert found['pred_class'] == f'photo {found["pred_label"]}'
    by_name = Path(CONFIGS['mmpretrain']).name
    assert by_name in mmpretrain.list_models('vit-mini*')
    with pytest.raises(ValueError, match=f"'saim_mm://{by_name}/': the pack"):
        mmpretrain.ImageClassificationInferencer(by_name)
    found = mmpretrain.inference_model(by_name, image, pretrained=False)
    assert 0 <= found['pred_label'] < 10


def test_mmdet_inferencers(detector):
    """Where the data, and the json with the classes, are not."""
    from mmdet.apis import DetInferencer, inference_detector, init_detector

    config, checkpoint = map(str, (detector.elsewhere, detector.checkpoint))
    image = str(detector.data / 'val/0.png')
    infer = DetInferencer(model=config, weights=checkpoint, device='cpu')
    assert infer.model.dataset_meta['classes'] == ('dark', 'bright')
    (found,) = infer(image)['predictions']
    model = init_detector(config, checkpoint, device='cpu')
    assert model.dataset_meta['classes'] == ('dark', 'bright')
    again = inference_detector(model, image).pred_instances
    assert len(found['scores']) > 3
    torch.testing.assert_close(again.scores.tolist(), found['scores'])
    with pytest.raises(FileNotFoundError, match='/nowhere/data/val.json'):
        cfg = Config.fromfile(config)
        DATASETS.build(cfg.test_dataloader.dataset)


def test_mmseg_inferencers(segmentor):
    from mmseg.apis import MMSegInferencer, inference_model, init_model

    config, checkpoint = map(str, (segmentor.elsewhere, segmentor.checkpoint))
    image = str(segmentor.data / 'images/val/0.png')
    infer = MMSegInferencer(config, checkpoint, device='cpu')
    found = infer(image, return_vis=True)['predictions']
    assert infer.visualizer.dataset_meta['classes'][10] == 'bicyclist'
    model = init_model(config, checkpoint, device='cpu')
    assert model.dataset_meta['classes'][10] == 'bicyclist'
    for given in (image, np.asarray(Image.open(image))[..., ::-1]):
        again = inference_model(model, given).pred_sem_seg.data[0]
        assert np.array_equal(again.numpy(), found)


@pytest.mark.parametrize('trained', ['mmdet', 'mmseg'], indirect=True)
def test_saim_predict(trained, run, tmp_path):
    """The same command as for classes; without the data, too."""
    detects = trained.toolbox == 'mmdet'
    data = trained.data / ('val' if detects else 'images/val')
    folder = tmp_path / 'run'
    folder.mkdir()
    # As a work_dir of tools/train.py: the config has a name of its own.
    shutil.copy(trained.elsewhere, folder / 'of_mine.py')
    shutil.copy(trained.checkpoint, folder / 'epoch_1.pth')
    code, output = run(
        '-m', 'saim_mm.cli', 'predict', folder / 'epoch_1.pth', data
    )
    assert code == 1 and 'beside the config' in output  # it might be any
    (folder / 'last_checkpoint').write_text(str(folder / 'epoch_1.pth'))
    images = tmp_path / 'images'
    shutil.copytree(data, images / 'deep', ignore=lambda *_: ['annotations'])
    (images / 'broken.jpg').write_bytes(b'no image')
    # Of the one side resizing leaves nothing.
    Image.new('RGB', (7, 40_000)).save(images / 'thin.png')
    saim = ('-m', 'saim_mm.cli', 'predict', folder)
    out, pictures = tmp_path / 'found.json', tmp_path / 'pictures'
    code, output = run(
        # One is asked for twice, and is found once.
        *(*saim, images, images / 'deep', '--pictures', pictures),
        *('--score', '0', '--out', out),
    )
    assert code == 0, output
    assert output.count('skipped: ') == 2, output
    assert 'broken.jpg' in output and 'thin.png' in output
    rows = json.loads(out.read_text())
    files = sorted(str(x) for x in images.glob('deep/*.*g'))
    assert len(files) == 4
    for file in files:
        found = [x for x in rows if x['file'] == file]
        image = Image.open(file)
        name = f'{Path(file).stem}'
        drawn = pictures / 'deep' / f'{name}.jpg'
        assert Image.open(drawn).size == image.size
        if detects:
            assert found and all(
                0 <= x['x1'] <= x['x2'] <= image.width
                and 0 <= x['y1'] <= x['y2'] <= image.height
                and x['mask']['size'] == [image.height, image.width]
                for x in found
            )
        else:
            labels = np.asarray(
                Image.open(pictures / 'deep' / f'{name}_labels.png')
            )
            assert labels.shape == image.size[::-1]
            shares = np.unique(labels, return_counts=True)[1] / labels.size
            assert [x['share'] for x in found] == pytest.approx(
                shares.tolist(), abs=1e-4
            )
    if detects:  # by default not what is hardly found
        code, output = run(*saim, images / 'deep')
        assert code == 0, output
        assert output.splitlines()[0].startswith('file,class')
    # Another's picture, or an image, is not written over.
    other = tmp_path / 'other' / Path(files[0]).name
    other.parent.mkdir()
    shutil.copy(files[0], other)
    code, output = run(*saim, *files, other, '--pictures', pictures)
    assert code == 1
    assert 'error: pictures=' in output.splitlines()[-1]
    assert 'the picture of another' in output
    (tmp_path / 'link').symlink_to(images / 'deep')
    before = {x: x.read_bytes() for x in images.glob('deep/*')}
    for place in (images / 'deep', tmp_path / 'link', images / 'deep/../deep'):
        code, output = run(*saim, files[0], '--pictures', place)
        assert code == 1 and 'is among the images' in output
    assert before == {x: x.read_bytes() for x in images.glob('deep/*')}


@pytest.mark.parametrize('trained', ['mmdet', 'mmseg'], indirect=True)
def test_predictions_without_the_data(trained, run, tmp_path):
    """The checkpoint is enough; all of it in one picture, if wanted."""
    detects = trained.toolbox == 'mmdet'
    data = trained.data / ('val' if detects else 'images/val')
    labels = () if detects else ('--labels', trained.data / 'annotations/val')
    sheet = tmp_path / 'sheet.png'
    code, output = run(
        'visualization/predictions.py',
        *(trained.elsewhere, trained.checkpoint, data, '--device', 'cpu'),
        *('--out', tmp_path / 'out', '--sheet', sheet, *labels),
        *('--title', 'one', '--beside', 'another', trained.checkpoint),
    )
    assert code == 0, output
    assert len(list((tmp_path / 'out/vis').iterdir())) == 4
    columns = 3 if detects else 4
    assert Image.open(sheet).width == 450 * columns
    if detects:  # its windows and relative positions, too
        out = tmp_path / 'pca.png'
        code, output = run(
            *('visualization/pca.py', data / '0.png', '--out', out),
            *('--config', trained.elsewhere),
            *('--checkpoint', trained.checkpoint),
        )
        assert code == 0 and out.is_file(), output
    shutil.copytree(data, tmp_path / 'other')
    code, output = run(
        'visualization/predictions.py',
        *(trained.elsewhere, trained.checkpoint, data, tmp_path / 'other'),
    )
    assert code == 2 and '4 names stand in more than one folder' in output
    if not detects:
        (trained.data / 'annotations/val/3.png').rename(tmp_path / '3.png')
        code, output = run(
            'visualization/predictions.py',
            *(trained.elsewhere, trained.checkpoint, data),
            *('--sheet', sheet, *labels),
        )
        shutil.move(tmp_path / '3.png', trained.data / 'annotations/val')
        assert code == 2 and 'there is no' in output
        assert 'val/3.png' in output
