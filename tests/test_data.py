"""Images of every kind, through the dataset of the pre-training configs."""

import numpy as np
import pytest
from mmpretrain.registry import DATASETS
from PIL import Image
from sklearn.datasets import load_sample_image

PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(
        type='RandomResizedCrop',
        scale=32,
        crop_ratio_range=(1.0, 1.0),
        aspect_ratio_range=(1.0, 1.0),
        backend='pillow',
        interpolation='bicubic',
    ),
    dict(type='PackInputs'),
]


def dataset(folder):
    return DATASETS.build(
        dict(
            type='UnlabelledImages',
            data_root=str(folder),
            pipeline=PIPELINE,
        )
    )


def photo():
    return Image.fromarray(load_sample_image('china.jpg')[:400, :400])


def write_png16(path):
    grey = np.asarray(photo().convert('L')).astype(np.uint16) * 257
    Image.fromarray(grey).save(path)


SAVE = {
    'rgb.jpg': lambda p: photo().save(p),
    'grey.jpg': lambda p: photo().convert('L').save(p),
    'cmyk.jpg': lambda p: photo().convert('CMYK').save(p),
    'rgba.png': lambda p: photo().convert('RGBA').save(p),
    'palette.png': lambda p: photo().convert('P').save(p),
    '16bit.png': write_png16,
    'rgb.webp': lambda p: photo().save(p, lossless=True),
    'rgb.tiff': lambda p: photo().save(p),
    'UPPER.JPG': lambda p: photo().save(p, format='jpeg'),
}


@pytest.mark.parametrize('name', SAVE)
def test_every_mode_becomes_rgb(tmp_path, name):
    """The pixels are the photograph's, not only of the right shape."""
    SAVE[name](tmp_path / name)
    inputs = dataset(tmp_path)[0]['inputs'].numpy()  # BGR, as OpenCV loads
    assert inputs.shape == (3, 32, 32) and inputs.dtype == np.uint8
    grey = name in ('grey.jpg', '16bit.png')
    expected = photo().convert('L').convert('RGB') if grey else photo()
    expected = expected.resize((32, 32), Image.Resampling.BICUBIC)
    difference = inputs[::-1].transpose(1, 2, 0) - np.asarray(expected, float)
    assert np.abs(difference).mean() < 6


def test_tiny_and_thin_images(tmp_path):
    for size in ((8, 8), (1, 1), (500, 3)):
        photo().resize(size).save(tmp_path / f'{size[0]}_{size[1]}.png')
    images = dataset(tmp_path)
    assert len(images) == 3
    assert all(images[i]['inputs'].shape == (3, 32, 32) for i in range(3))


def test_subfolders_and_other_files(tmp_path):
    (tmp_path / 'a/b').mkdir(parents=True)
    photo().save(tmp_path / 'a/b/deep.png')
    photo().save(tmp_path / 'top.png')
    (tmp_path / 'a/readme.txt').write_text('not an image')
    images = dataset(tmp_path)
    paths = sorted(images.get_data_info(i)['img_path'] for i in range(2))
    assert len(images) == 2
    assert paths == [str(tmp_path / 'a/b/deep.png'), str(tmp_path / 'top.png')]


@pytest.mark.parametrize('content', [b'', b'text', b'\xff\xd8\xff\xe0'])
def test_unreadable_is_replaced_and_counted(tmp_path, caplog, content):
    photo().save(tmp_path / 'good.png')
    (tmp_path / 'bad.jpg').write_bytes(content)
    images = dataset(tmp_path)
    for _ in range(3):
        assert images[0]['inputs'].shape == (3, 32, 32)
    assert images.get_data_info(0)['img_path'].endswith('bad.jpg')
    assert images.unreadable.tolist() == [1, 0]


def test_an_error_of_a_transform_is_not_taken_for_a_bad_file(tmp_path):
    photo().save(tmp_path / 'good.png')
    images = dataset(tmp_path)

    def broken(results):
        raise RuntimeError('a bug')

    images.pipeline.transforms[1] = broken
    with pytest.raises(RuntimeError, match='a bug'):
        images[0]
