"""What predictions are called, and where their pictures go."""

import pytest
from mmengine.config import Config

from saim_mm.evaluation.inferencer import class_meta
from saim_mm.evaluation.predict import picture_names, predictor


def config(scope, number, **data):
    head = dict(type='Head', num_classes=number)
    return Config(
        dict(
            default_scope=scope,
            model=dict(decode_head=head),
            test_dataloader=dict(dataset=data),
        )
    )


@pytest.mark.parametrize(
    ('scope', 'number', 'data', 'meta', 'expected'),
    [
        # The checkpoint's, if there are as many.
        ('mmseg', 2, {}, dict(classes=('a', 'b')), ('a', 'b')),
        ('mmdet', 2, {}, dict(CLASSES=['a', 'b']), ('a', 'b')),
        ('mmseg', 3, {}, dict(classes=('a', 'b')), ('0', '1', '2')),
        ('mmseg', 2, {}, {}, ('0', '1')),
        ('mmseg', 2, {}, None, ('0', '1')),
        # The config's own; and those of its kind of data.
        ('mmdet', 1, dict(metainfo=dict(classes=('x',))), None, ('x',)),
        ('mmdet', 2, dict(type='CocoDataset'), None, ('0', '1')),
        ('mmdet', 80, dict(type='CocoDataset'), None, 'person'),
        ('mmseg', 19, dict(type='CityscapesDataset'), {}, 'road'),
        # Never another data set's.
        ('mmseg', 19, dict(type='BaseSegDataset'), None, '0'),
    ],
)
def test_names_of_classes(scope, number, data, meta, expected):
    if scope == 'mmdet':
        pytest.importorskip('mmdet.datasets')
    else:
        pytest.importorskip('mmseg.datasets')
    found = class_meta(config(scope, number, **data), dict(dataset_meta=meta))
    names = found['classes']
    assert len(names) == len(found['palette']) == number
    assert (names if isinstance(expected, tuple) else names[0]) == expected
    assert all(0 <= x < 256 for colour in found['palette'] for x in colour)


@pytest.mark.parametrize('scope', ['mmpretrain', 'mmdet', 'mmseg'])
def test_a_model_that_was_never_tested(scope):
    """Trained without validation; nothing is loaded to find that out."""
    cfg = config(scope, 2)
    cfg.test_dataloader = None
    cfg.model.type = 'ImageClassifier' if scope == 'mmpretrain' else 'Other'
    with pytest.raises(ValueError, match='test_dataloader=None: must be set'):
        predictor(cfg, 'config.py', 'nowhere.pth', 0.3)


def test_each_has_a_picture_of_its_own(tmp_path):
    """Of the same stem, too, and in sub-folders."""
    for name in ('a.jpg', 'a.png', 'b.png', 'deep/a.png'):
        path = tmp_path / 'images' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    files = sorted(map(str, (tmp_path / 'images').rglob('*.*')))
    names = picture_names([tmp_path / 'images'], files, tmp_path / 'out')
    assert [str(x.relative_to(tmp_path)) for x in names.values()] == [
        'out/a.jpg.jpg', 'out/a.png.jpg', 'out/b.jpg', 'out/deep/a.jpg'
    ]  # fmt: skip
    with pytest.raises(ValueError, match='pictures=.*is among the images'):
        picture_names([tmp_path / 'images'], files, tmp_path / 'images')
