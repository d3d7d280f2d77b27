"""Images of every kind, through the dataset of the pre-training configs."""

import io
import struct

import cv2
import numpy as np
import pytest
from mmpretrain.registry import DATASETS, TRANSFORMS
from PIL import Image
from sklearn.datasets import load_sample_image

from saim_mm.datasets.images import EXIF_ORIENTATION, jpeg_shape
from saim_mm.datasets.transforms import REDUCED

STOCK = ['LoadImageFromFile', 'RandomResizedCrop']
OURS = ['LoadRandomResizedCrop']


def pipeline(names, scale=32, area=(1.0, 1.0), ratio=(1.0, 1.0)):
    """Load, crop, resize and pack, the stock way or ours."""
    crop = dict(
        scale=scale,
        crop_ratio_range=area,
        aspect_ratio_range=ratio,
        interpolation='bicubic',
    )
    if names is STOCK:
        crop['backend'] = 'pillow'
    *load, last = names
    return [
        *(dict(type=name) for name in load),
        dict(type=last, **crop),
        dict(type='PackInputs'),
    ]


def dataset(folder, names=OURS, **crop):
    return DATASETS.build(
        dict(
            type='UnlabelledImages',
            data_root=str(folder),
            pipeline=pipeline(names, **crop),
        )
    )


def photo():
    return Image.fromarray(load_sample_image('china.jpg')[:400, :400])


def write_png16(path):
    grey = np.asarray(photo().convert('L')).astype(np.uint16) * 257
    Image.fromarray(grey).save(path)


SAVE = {
    'rgb.jpg': lambda p: photo().save(p),
    'progressive.jpg': lambda p: photo().save(p, progressive=True),
    'grey.jpg': lambda p: photo().convert('L').save(p),
    'cmyk.jpg': lambda p: photo().convert('CMYK').save(p),
    'rgba.png': lambda p: photo().convert('RGBA').save(p),
    'palette.png': lambda p: photo().convert('P').save(p),
    '16bit.png': write_png16,
    'rgb.webp': lambda p: photo().save(p, lossless=True),
    'rgb.tiff': lambda p: photo().save(p),
    'UPPER.JPG': lambda p: photo().save(p, format='jpeg'),
}


@pytest.mark.parametrize('names', [STOCK, OURS])
@pytest.mark.parametrize('name', SAVE)
def test_every_mode_becomes_rgb(tmp_path, name, names):
    """The pixels are the photograph's, not only of the right shape."""
    SAVE[name](tmp_path / name)
    inputs = dataset(tmp_path, names)[0]['inputs'].numpy()  # BGR, as OpenCV's
    assert inputs.shape == (3, 32, 32) and inputs.dtype == np.uint8
    grey = name in ('grey.jpg', '16bit.png')
    expected = photo().convert('L').convert('RGB') if grey else photo()
    expected = expected.resize((32, 32), Image.Resampling.BICUBIC)
    difference = inputs[::-1].transpose(1, 2, 0) - np.asarray(expected, float)
    assert np.abs(difference).mean() < 6


def test_tiny_and_thin_images(tmp_path):
    for size in ((8, 8), (1, 1), (500, 3)):
        for kind in ('png', 'jpg'):
            photo().resize(size).save(tmp_path / f'{size[0]}_{size[1]}.{kind}')
    images = dataset(tmp_path)
    assert len(images) == 6
    assert all(images[i]['inputs'].shape == (3, 32, 32) for i in range(6))


def test_subfolders_and_other_files(tmp_path):
    (tmp_path / 'a/b').mkdir(parents=True)
    photo().save(tmp_path / 'a/b/deep.png')
    photo().save(tmp_path / 'top.png')
    (tmp_path / 'a/readme.txt').write_text('not an image')
    images = dataset(tmp_path)
    paths = sorted(images.get_data_info(i)['img_path'] for i in range(2))
    assert len(images) == 2
    assert paths == [str(tmp_path / 'a/b/deep.png'), str(tmp_path / 'top.png')]


def jpeg(image=None, **options):
    stream = io.BytesIO()
    (image or photo()).save(stream, format='jpeg', **options)
    return stream.getvalue()


def truncated():
    """With a whole thumbnail in the header, as cameras write it."""
    whole = jpeg(comment=jpeg(photo().resize((16, 16))))
    assert b'\xff\xd9' in whole[: len(whole) // 2]
    return whole[: len(whole) // 2]


UNREADABLE = {
    'empty': (b'', 'an empty file'),
    'text': (b'text', 'not an image'),
    'no header': (b'\xff\xd8\xff\xe0', 'without a readable header'),
    'half a JPEG': (truncated(), 'a truncated JPEG'),
}


@pytest.mark.parametrize('kind', UNREADABLE)
def test_unreadable_is_replaced_and_counted(tmp_path, kind):
    content, reason = UNREADABLE[kind]
    photo().save(tmp_path / 'good.png')
    (tmp_path / 'bad.jpg').write_bytes(content)
    images = dataset(tmp_path)
    with pytest.raises(OSError, match=reason):
        images.pipeline(images.get_data_info(0))
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


def both(path, seed, scale, names=(STOCK, OURS), **crop):
    """One file through the stock pipeline and ours: pixels as integers."""
    images = []
    for choice in names:
        np.random.seed(seed)
        results = dict(img_path=str(path))
        settings = pipeline(choice, scale, (0.67, 1.0), (3 / 4, 4 / 3))[:-1]
        settings[-1].update(crop if choice is OURS else {})
        for transform in settings:
            results = TRANSFORMS.build(transform)(results)
        images.append(results['img'].astype(int))
    return images


@pytest.mark.parametrize('kind', ['jpg', 'png'])
@pytest.mark.parametrize('scale', [224, (128, 192)])
def test_the_crops_are_those_of_the_stock_pipeline(tmp_path, kind, scale):
    """From the same seed: the same boxes, and Pillow's pixels."""
    for number, name in enumerate(('china.jpg', 'flower.jpg')):
        path = tmp_path / f'{number}.{kind}'
        Image.fromarray(load_sample_image(name)).save(path)
        for seed in range(10):
            stock, ours = both(path, seed, scale)
            difference = np.abs(stock - ours)
            assert difference.mean() < 0.03 and difference.max() <= 6
            # A box a pixel aside would show.
            other = np.abs(stock[:, 1:] - ours[:, :-1])
            assert other.mean() > 1


def test_large_jpegs_are_decoded_at_a_fraction(tmp_path):
    """Not those which are not much larger than the crop, nor PNGs."""
    image = Image.fromarray(load_sample_image('china.jpg'))
    image = image.resize((4 * image.width, 4 * image.height))
    image.save(tmp_path / 'huge.jpg')
    image.save(tmp_path / 'huge.png', compress_level=0)
    transform = TRANSFORMS.build(pipeline(OURS, 224)[0])
    names = {cv2.IMREAD_COLOR: 1, **{v: k for k, v in REDUCED.items()}}
    factors = [
        names[transform._flag((side, 5000))]
        for side in (200, 447, 895, 896, 1791, 1792, 4000)
    ]
    assert factors == [1, 1, 1, 2, 2, 4, 8]
    for seed in range(5):
        stock, reduced = both(tmp_path / 'huge.jpg', seed, 224)
        _, full = both(
            tmp_path / 'huge.jpg', seed, 224, reducing_gap=float('inf')
        )
        assert np.abs(stock - full).mean() < 0.03
        assert 0.1 < np.abs(stock - reduced).mean() < 3
        stock, png = both(tmp_path / 'huge.png', seed, 224)
        assert np.abs(stock - png).mean() < 0.03


@pytest.mark.parametrize('orientation', range(1, 9))
def test_exif_orientation(tmp_path, orientation):
    """Turned as the stock pipeline turns it, at full and at half size."""
    header = Image.Exif()
    header[EXIF_ORIENTATION] = orientation
    image = Image.fromarray(load_sample_image('china.jpg'))
    image.save(tmp_path / 'turned.jpg', exif=header)
    for scale, bound in ((224, 0.03), (64, 5)):
        stock, ours = both(tmp_path / 'turned.jpg', 1, scale)
        assert np.abs(stock - ours).mean() < bound


def exif(orientation):
    header = Image.Exif()
    header[EXIF_ORIENTATION] = orientation
    return header.tobytes()


def segment(content):
    """A JPEG's APP1."""
    return b'\xff\xe1' + struct.pack('>H', len(content) + 2) + content


XMP = segment(
    b'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    b'<rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
)


TURNED = {
    'XMP alone': (XMP, False),
    'EXIF 1 and XMP': (segment(exif(1)) + XMP, False),
    'EXIF 6 and XMP': (segment(exif(6)) + XMP, True),
    'EXIF 9': (segment(exif(9)), False),
    'EXIF 0': (segment(exif(0)), False),
    'broken EXIF': (segment(b'Exif\0\0no header of a TIFF'), False),
    'empty EXIF': (segment(b'Exif\0\0'), False),
}


@pytest.mark.parametrize('name', TURNED)
def test_what_turns_a_photograph(name):
    """EXIF's orientations 5 to 8, as OpenCV has it, and nothing else."""
    segments, turned = TURNED[name]
    # Without a resolution Pillow itself looks for one in EXIF.
    content = jpeg(photo().crop((0, 0, 40, 30)), dpi=(72, 72))
    content = content[:2] + segments + content[2:]
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    shape = (40, 30) if turned else (30, 40)
    assert jpeg_shape(content) == image.shape[:2] == shape


def test_what_follows_a_jpeg_does_not_matter(tmp_path):
    """Phones append films, and some programs pad with zeros."""
    path = tmp_path / 'motion.jpg'
    path.write_bytes(jpeg() + b'\xff\xda film' + bytes(1000))
    stock, ours = both(path, 0, 64, reducing_gap=float('inf'))
    assert np.abs(stock - ours).mean() < 0.03


@pytest.mark.parametrize(
    'field, value', [('interpolation', 'area'), ('reducing_gap', 0.5)]
)
def test_arguments_of_the_crop(field, value):
    with pytest.raises(ValueError, match=f'{field}.*{value}'):
        TRANSFORMS.build(
            dict(type='LoadRandomResizedCrop', scale=32, **{field: value})
        )
