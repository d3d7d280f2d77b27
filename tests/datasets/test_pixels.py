"""Images of any channels and depth: what they are, read, and measured."""

import io
import struct
import warnings

import cv2
import numpy as np
import pytest
import torch
from mmpretrain.registry import TRANSFORMS
from PIL import Image

from saim_mm.datasets.decoding import Kind, decode_any, read_kind
from saim_mm.datasets.folders import look_at
from saim_mm.datasets.images import check_pixels, read_image
from saim_mm.datasets.pixels import (
    RGB,
    PixelFormat,
    choose_format,
    measure,
    pixel_format,
    read_pixels,
)
from saim_mm.datasets.transforms import (
    LoadPixels,
    PixelsRandomResizedCrop,
    PixelsResizeEdge,
)

SIZE = 20, 30


def noise(channels=1, dtype='uint8', size=SIZE, seed=0):
    random = np.random.default_rng(seed)
    if np.dtype(dtype).kind == 'f':
        return random.normal(size=(*size, channels)).astype(dtype)
    values = random.integers(0, np.iinfo(dtype).max, (*size, channels))
    return values.astype(dtype)


def pages(path, image, **arguments):
    """Write a TIFF with a page for each channel."""
    first, *rest = map(Image.fromarray, np.moveaxis(image, -1, 0))
    first.save(path, save_all=True, append_images=rest, **arguments)


def save(path, image):
    """Write by OpenCV, which takes three channels for BGR."""
    order = {3: [2, 1, 0], 4: [2, 1, 0, 3]}.get(image.shape[2], [0])
    assert cv2.imwrite(str(path), image[..., order])


@pytest.mark.parametrize(
    ('name', 'channels', 'dtype'),
    [
        ('a.png', 1, 'uint8'),
        ('a.png', 1, 'uint16'),
        ('a.png', 3, 'uint8'),
        ('a.png', 3, 'uint16'),
        ('a.tif', 1, 'uint8'),
        ('a.tif', 1, 'uint16'),
        ('a.tif', 3, 'uint16'),
        ('a.tif', 1, 'float32'),
    ],
)
def test_every_kind_is_read_as_it_is(tmp_path, name, channels, dtype):
    image = noise(channels, dtype)
    save(tmp_path / name, image)
    assert read_kind(tmp_path / name) == Kind(*SIZE, channels, dtype)
    found = read_pixels(tmp_path / name, PixelFormat(channels, dtype))
    assert found.dtype == (np.uint8 if dtype == 'uint8' else np.float32)
    assert np.array_equal(found, image)


@pytest.mark.parametrize('compression', [None, 'tiff_lzw', 'tiff_deflate'])
@pytest.mark.parametrize('dtype', ['uint8', 'uint16'])
@pytest.mark.parametrize('channels', [2, 3, 4, 7])
def test_pages_are_channels(tmp_path, channels, dtype, compression):
    image = noise(channels, dtype)
    pages(tmp_path / 'a.tif', image, compression=compression)
    kind = Kind(*SIZE, channels, dtype, stack=True)
    assert read_kind(tmp_path / 'a.tif') == kind
    found = read_pixels(tmp_path / 'a.tif', PixelFormat(channels, dtype))
    assert np.array_equal(found, image)


def test_pages_of_other_sizes_are_none(tmp_path):
    """A photograph and its small preview."""
    photo = noise(3)
    first, second = Image.fromarray(photo), Image.fromarray(photo[::2, ::2])
    first.save(tmp_path / 'a.tif', save_all=True, append_images=[second])
    assert read_kind(tmp_path / 'a.tif') == Kind(*SIZE, 3)


@pytest.mark.parametrize('plane', ['contig', 'separate'])
@pytest.mark.parametrize('dtype', ['uint8', 'uint16', 'float32'])
@pytest.mark.parametrize('channels', [2, 4, 5, 13])
def test_interleaved_channels(tmp_path, channels, dtype, plane, caplog):
    """OpenCV takes some of these for one channel, and of another depth."""
    tifffile = pytest.importorskip('tifffile')
    image = noise(channels, dtype)
    tifffile.imwrite(
        tmp_path / 'a.tif',
        image if plane == 'contig' else image.transpose(2, 0, 1),
        photometric='minisblack',
        planarconfig=plane,
    )
    assert read_kind(tmp_path / 'a.tif') == Kind(*SIZE, channels, dtype)
    found = read_pixels(tmp_path / 'a.tif', PixelFormat(channels, dtype))
    assert np.array_equal(found, image)
    assert not caplog.records  # Pillow's complaints


def test_a_bomb(tmp_path, monkeypatch):
    monkeypatch.setattr('saim_mm.datasets.images.MAX_PIXELS', 599)
    pages(tmp_path / 'a.tif', noise(5, 'uint16'))
    with pytest.raises(ValueError, match=r'a\.tif.*600 pixels: more than'):
        read_pixels(tmp_path / 'a.tif', PixelFormat(5, 'uint16'))


def test_all_pages_of_a_stack_count(tmp_path, monkeypatch):
    """Before any is decoded; four values a pixel, as of an RGBA image."""
    monkeypatch.setattr('saim_mm.datasets.images.MAX_PIXELS', 600)
    pages(tmp_path / 'a.tif', noise(4))
    assert read_kind(tmp_path / 'a.tif') == Kind(*SIZE, 4, stack=True)
    pages(tmp_path / 'a.tif', noise(5))
    monkeypatch.delattr(cv2, 'imdecodemulti')
    with pytest.raises(OSError, match='3,000 values: more than 2,400'):
        read_kind(tmp_path / 'a.tif')


def test_of_a_scan_only_the_first_page_is_decoded(tmp_path, monkeypatch):
    """However many there are, and broken ones: they are no channels."""
    monkeypatch.setattr('saim_mm.datasets.images.MAX_PIXELS', 600)
    first, *rest = (noise(3, seed=number) for number in range(9))
    Image.fromarray(first).save(
        tmp_path / 'a.tif',
        save_all=True,
        append_images=map(Image.fromarray, rest),
    )
    content = (tmp_path / 'a.tif').read_bytes()[:-100]  # the last is cut
    image, kind = decode_any(content)
    assert kind == Kind(*SIZE, 3) and np.array_equal(image, first)


def tiff(*pages, big=False, back=False):
    """A TIFF of pages with the same pixels, 0 to 255 and again, by its tags.

    Each is a list of (tag, type, number of values, value); ``back``: the last
    page is followed by the first.
    """
    begin, count, entry, link = (
        (b'II+\0\x08\0\0\0', '<Q', '<HHQQ', '<Q')
        if big
        else (b'II*\0', '<H', '<HHLL', '<L')
    )
    size = struct.calcsize(link)
    start = len(begin) + size + 1024  # behind the pixels
    content = begin + struct.pack(link, start) + bytes(range(256)) * 4
    for number, page in enumerate(pages):
        content += struct.pack(count, len(page))
        content += b''.join(struct.pack(entry, *tag) for tag in page)
        following = len(content) + size
        if number == len(pages) - 1:
            following = start if back else 0
        content += struct.pack(link, following)
    return content


def tags(*more, big=False):
    """Of a page of 20 x 30 grey pixels, and more, by their numbers."""
    own = {256: 30, 257: 20, 258: 8, 259: 1, 262: 1, 277: 1, 278: 20, 279: 600}
    own[273] = 16 if big else 8
    return sorted(
        [*((tag, 4, 1, value) for tag, value in own.items()), *more],
        key=lambda x: x[0],
    )


@pytest.mark.parametrize('big', [False, True])
def test_pages_are_counted_as_opencv_finds_them(big, monkeypatch):
    """Where Pillow's reader of tags stops, or takes another width."""
    page = tags(big=big)
    far = tags((305, 2, 100, 2**30), big=big)  # a name beyond the end
    twice = tags((256, 4, 1, 1), big=big)  # the second width is none
    for content, channels in (
        (tiff(page, page, page, big=big), 3),
        (tiff(page, page, page, big=big, back=True), 3),
        (tiff(far, far, far, big=big), 3),
        (tiff(page, twice, twice, big=big), 3),
        (tiff(page, page, page, big=big)[:-1], 3),  # what follows is cut
        (tiff(page, page, page, big=big)[:-30], 2),  # a page is cut
        (tiff(page, page, [(256, 5, 1, 1), *page[1:]], big=big), 2),
    ):
        expected = bytes(range(256)) * 2 + bytes(range(88))
        image, kind = decode_any(content)
        assert kind == Kind(*SIZE, channels, stack=True)
        assert all(
            image[..., channel].tobytes() == expected
            for channel in range(channels)
        )
        assert np.array_equal(read_gray(content), image[..., 0])
    monkeypatch.setattr('saim_mm.datasets.images.MAX_PIXELS', 599)
    for first in (page, far, twice):
        for read in (decode_any, read_gray):
            with pytest.raises(OSError, match='600 pixels: more than 599'):
                read(tiff(first, big=big))


def read_gray(content):
    check_pixels(content, None)
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)


@pytest.mark.parametrize('format', ['PNG', 'WEBP'])
def test_of_an_animation_only_the_first_frame_is_decoded(format, monkeypatch):
    first, *rest = (
        Image.fromarray(noise(3, seed=number)) for number in range(9)
    )
    stream = io.BytesIO()
    first.save(
        stream, format, save_all=True, append_images=rest, lossless=True
    )
    assert Image.open(stream).n_frames == 9
    monkeypatch.delattr(cv2, 'imdecodemulti')
    image, kind = decode_any(stream.getvalue())
    assert kind == Kind(*SIZE, 3) and np.array_equal(image, first)


def test_without_the_reader_of_interleaved_channels(tmp_path, monkeypatch):
    tifffile = pytest.importorskip('tifffile')
    tifffile.imwrite(
        tmp_path / 'a.tif',
        noise(5),
        photometric='minisblack',
        planarconfig='contig',
    )
    monkeypatch.setitem(__import__('sys').modules, 'tifffile', None)
    with pytest.raises(ImportError, match=r'5 samples.*saim_mm\[tiff\]'):
        look_at(tmp_path)


def test_transparency_is_no_channel_unless_asked_for(tmp_path):
    image = noise(4)
    for name in ('a.png', 'a.tif'):  # a TIFF that says it is transparency
        Image.fromarray(image).save(tmp_path / name)
        kind = read_kind(tmp_path / name)
        assert kind == Kind(*SIZE, 3, alpha=True) and kind.photo
        for channels in (3, 4):
            found = read_pixels(
                tmp_path / name, PixelFormat(channels, 'uint8')
            )
            assert np.array_equal(found, image[..., :channels])


def test_a_photograph_turned_by_its_exif(tmp_path):
    gray = Image.fromarray(noise()[..., 0])
    exif = Image.Exif()
    exif[0x0112] = 6
    gray.save(tmp_path / 'a.jpg', exif=exif)
    found = read_pixels(tmp_path / 'a.jpg', PixelFormat(1, 'uint8'))
    assert found.shape == (*SIZE[::-1], 1)
    assert np.array_equal(found.repeat(3, 2), read_image(tmp_path / 'a.jpg'))


@pytest.mark.parametrize('part', [0, 3, 7, 9, 20, 60, 300, 700])
def test_damaged_files(tmp_path, part):
    """An error that names the file, whatever is left of it."""
    pages(tmp_path / 'a.tif', noise(5, 'uint16'))
    whole = (tmp_path / 'a.tif').read_bytes()
    (tmp_path / 'a.tif').write_bytes(whole[:part])
    with pytest.raises(ValueError, match=r'a\.tif: must be a readable'):
        read_pixels(tmp_path / 'a.tif', PixelFormat(5, 'uint16'))
    with pytest.raises(OSError):
        decode_any(whole[:part])


def test_what_is_of_another_kind_is_refused(tmp_path):
    save(tmp_path / 'gray.png', noise(1, 'uint16'))
    save(tmp_path / 'color.png', noise(3, 'uint8'))
    pages(tmp_path / 'stack.tif', noise(5, 'uint16'))
    for name, pixels, message in (
        (
            'gray.png',
            (1, 'uint8'),
            'has 1 channel of uint16, and must be 1 of',
        ),
        ('gray.png', (2, 'uint16'), 'has 1 channel of uint16, and must be 2'),
        ('color.png', (1, 'uint8'), 'has 3 channels of uint8, and must be 1'),
        ('stack.tif', (4, 'uint16'), 'has 5 channels of uint16, and must be'),
    ):
        with pytest.raises(ValueError, match=f'{name}.*{message}'):
            read_pixels(tmp_path / name, PixelFormat(*pixels))
    three = read_pixels(tmp_path / 'gray.png', PixelFormat(3, 'uint16'))
    assert np.array_equal(three, noise(1, 'uint16').repeat(3, axis=2))
    hole = noise(1, 'float32')
    hole[3, 4] = np.nan
    save(tmp_path / 'hole.tif', hole)
    with pytest.raises(ValueError, match='not finite'):
        read_pixels(tmp_path / 'hole.tif', PixelFormat(1, 'float32'))
    image = noise(2, 'uint16')
    assert np.array_equal(read_pixels(image, PixelFormat(2, 'uint16')), image)
    for wrong in (image, np.zeros((2, 3, 4, 2), np.uint16)):
        with pytest.raises(ValueError, match='array of uint16'):
            read_pixels(wrong, PixelFormat(5, 'uint16'))


def choose(folder, channels=None):
    found = look_at(folder)
    return choose_format(found.kinds, found.files, channels, str(folder))


def photographs(folder):
    """What stands in folders of photographs, eight bits of whatever mode."""
    save(folder / 'gray.png', noise(1))
    Image.fromarray(noise(1)[..., 0]).save(folder / 'gray.jpg')
    Image.fromarray(noise(3)).save(folder / 'color.jpg')
    Image.fromarray(noise(3)).convert('CMYK').save(folder / 'cmyk.jpg')
    Image.fromarray(noise(3)).convert('P').save(folder / 'palette.png')
    Image.fromarray(noise(4)).save(folder / 'alpha.png')
    Image.fromarray(noise(4)).convert('LA').save(folder / 'gray_alpha.png')
    Image.fromarray(noise(1)[..., 0]).convert('1').save(folder / 'one.png')
    Image.fromarray(noise(4)).save(folder / 'alpha.tif')
    Image.fromarray(noise(4)).save(folder / 'alpha.webp')


def test_folders(tmp_path):
    """What follows from a folder's images, and what is refused."""
    for name in ('photos', 'gray', 'deep', 'color16', 'stacks', 'mixed'):
        (tmp_path / name).mkdir()
    photographs(tmp_path / 'photos')
    assert choose(tmp_path / 'photos') is RGB
    assert choose(tmp_path / 'photos', 3) is RGB
    for number in range(3):
        save(tmp_path / f'gray/{number}.png', noise(1, seed=number))
        save(tmp_path / f'deep/{number}.png', noise(1, 'uint16', seed=number))
        save(tmp_path / f'color16/{number}.png', noise(3, 'uint16'))
        pages(tmp_path / f'stacks/{number}.tif', noise(5, 'uint16'))
    for name, channels, expected in (
        ('gray', None, (1, 'uint8')),
        ('gray', 1, (1, 'uint8')),
        ('gray', 3, (3, None)),
        ('deep', None, (1, 'uint16')),
        ('deep', 3, (3, 'uint16')),
        ('color16', None, (3, 'uint16')),
        ('stacks', None, (5, 'uint16')),
        ('stacks', 5, (5, 'uint16')),
    ):
        found = choose(tmp_path / name, channels)
        assert (found.channels, found.dtype) == expected, name
        assert len(found.mean) == len(found.std) == expected[0]
    for name, channels, message in (
        ('stacks', 3, r'channels=3: must be what.*0\.tif has 5 channels'),
        ('photos', 1, r'channels=1: must be what.*has 3 channels of uint8'),
        ('photos', 5, 'channels=5: must be what'),
    ):
        with pytest.raises(ValueError, match=message):
            choose(tmp_path / name, channels)


@pytest.mark.parametrize(
    ('first', 'second', 'remedy'),
    [
        ((1, 'uint8'), (5, 'uint16'), False),
        ((5, 'uint16'), (4, 'uint16'), False),
        ((1, 'uint16'), (3, 'uint16'), True),
        ((3, 'uint16'), (1, 'uint16'), True),
    ],
)
def test_folders_of_two_kinds(tmp_path, first, second, remedy):
    """The error names two files, what they have, and what helps."""
    for name, (channels, dtype) in (('a', first), ('b', second)):
        if channels > 3:
            pages(tmp_path / f'{name}.tif', noise(channels, dtype))
        else:
            save(tmp_path / f'{name}.png', noise(channels, dtype))
    with pytest.raises(ValueError, match='data=') as error:
        choose(tmp_path)
    message = str(error.value)
    for name, (channels, dtype) in (('a', first), ('b', second)):
        assert f'{name}.' in message
        assert (
            f'{channels} channel{"s" * (channels > 1)} of {dtype}' in message
        )
    assert ('channels=3' in message) == remedy
    if remedy:
        assert choose(tmp_path, 3).dtype == 'uint16'


@pytest.mark.parametrize('channels', [None, 3])
def test_a_folder_that_mixes_depths_is_rgb(tmp_path, channels):
    """As photographs with a scan of 16 bit among them always were."""
    save(tmp_path / 'a.png', noise(3, 'uint8'))
    save(tmp_path / 'b.png', noise(1, 'uint16'))
    assert choose(tmp_path, channels) == RGB
    with pytest.raises(ValueError, match=r'channels=1: must be.*a\.png has 3'):
        choose(tmp_path, 1)


@pytest.mark.parametrize('dtype', ['uint8', 'uint16', 'float32'])
def test_mean_and_deviation(tmp_path, dtype):
    images = [
        noise(5, dtype, (10 + number, 12), number) for number in range(6)
    ]
    if dtype == 'float32':
        images = [1e4 + x for x in images]  # far from zero
    for number, image in enumerate(images):
        image[..., 3] = 7
        path = tmp_path / f'{number}.tif'
        if dtype == 'float32':
            assert cv2.imwritemulti(str(path), list(np.moveaxis(image, -1, 0)))
        else:
            pages(path, image)
    files = sorted(tmp_path.iterdir())
    (tmp_path / '2b.tif').write_bytes(b'no image')
    every = np.concatenate([x.reshape(-1, 5) for x in images]).astype(float)
    mean, std = measure(sorted(tmp_path.iterdir()), 5, dtype)
    np.testing.assert_allclose(mean, every.mean(0), rtol=1e-5)
    expected = every.std(0)
    expected[3] = 1  # the same everywhere
    np.testing.assert_allclose(std, expected, rtol=1e-5)
    assert measure(files, 5, dtype) == (mean, std)
    with pytest.raises(
        ValueError, match='none of 6 images can be read.*has 5'
    ):
        measure(files, 4, dtype)


def test_at_most_some_images_are_measured(tmp_path, monkeypatch):
    monkeypatch.setattr('saim_mm.datasets.pixels.MEASURED', 4)
    for number in range(10):
        image = np.full((4, 4, 1), number, np.uint8)
        save(tmp_path / f'{number}.png', image)
    (mean,), _ = measure(sorted(tmp_path.iterdir()), 1, 'uint8')
    assert mean == np.mean([0, 3, 6, 9])


@pytest.mark.parametrize('dtype', ['uint8', 'uint16'])
@pytest.mark.parametrize('channels', [1, 4, 5])
def test_transforms(tmp_path, channels, dtype):
    """Each channel by itself is as one alone; constants stay."""
    image = noise(channels, dtype, (50, 70))
    image[..., -1] = 100
    pages(tmp_path / 'a.tif', image)
    load = LoadPixels(channels, dtype)
    results = load(dict(img_path=str(tmp_path / 'a.tif')))
    assert results['img_shape'] == results['ori_shape'] == (50, 70)
    whole = dict(results)
    for transform in (
        PixelsRandomResizedCrop(24, interpolation='bicubic'),
        PixelsResizeEdge(24, interpolation='bicubic'),
    ):
        outputs = []
        for number in (None, *range(channels)):
            np.random.seed(0)
            own = whole['img']
            if number is not None:
                own = own[..., number : number + 1]
            outputs.append(transform(dict(whole, img=own))['img'])
        every, *single = outputs
        assert every.shape[2] == channels and every.dtype == own.dtype
        assert every.shape[:2] in ((24, 24), (24, 33))
        assert np.array_equal(every, np.concatenate(single, axis=2))
        np.testing.assert_allclose(every[..., -1], 100, rtol=1e-6)


def test_crops_of_rgb_are_pillows(tmp_path):
    """The same boxes as mmpretrain's, and its pixels nearly."""
    from mmpretrain.datasets import RandomResizedCrop

    image = cv2.blur(noise(3, size=(60, 80)), (5, 5))
    crops = []
    for kind in (RandomResizedCrop, PixelsRandomResizedCrop):
        np.random.seed(3)
        transform = kind(32, interpolation='bicubic', backend='pillow')
        crops.append(transform(dict(img=image))['img'].astype(int))
    assert np.abs(crops[0] - crops[1]).max() <= 1


@pytest.mark.parametrize('pixels', [RGB, PixelFormat(5, 'uint16')])
def test_crops_are_resized_alike(pixels):
    """In training as in validation."""
    for crop in (pixels.random_crop(scale=24), pixels.center_crop(24, 24)[0]):
        transform = TRANSFORMS.build(crop)
        image = noise(pixels.channels).astype(pixels.dtype or 'uint8')
        image = image.astype(np.float32) if pixels.dtype else image
        transform(dict(img=image))
        assert transform.interpolation == 'bicubic'


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ((0, 'uint8'), 'LoadPixels.channels=0'),
        ((1.5, 'uint8'), 'LoadPixels.channels=1.5'),
        ((3, 'int99'), "LoadPixels.dtype='int99'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        LoadPixels(*arguments)
    with pytest.raises(ValueError, match='shown=.*0 to 4'):
        PixelFormat(5, 'uint8', shown=(0, 1, 5))


def test_the_format_of_a_config():
    load = dict(type='LoadPixels', channels=2, dtype='uint16')
    scale = dict(mean=[1.0, 2.0], std=[3.0, 4.0])
    loader = dict(dataset=dict(pipeline=[load]))
    expected = PixelFormat(2, 'uint16', (1.0, 2.0), (3.0, 4.0))
    for cfg in (
        dict(train_dataloader=loader, data_preprocessor=scale),
        dict(train_dataloader=loader, model=dict(data_preprocessor=scale)),
    ):
        assert pixel_format(cfg) == expected
    for cfg in (dict(), dict(train_dataloader=None, model=dict())):
        assert pixel_format(cfg) == RGB


def test_pixels_as_pictures():
    pixels = PixelFormat(5, 'uint16', (100.0,) * 5, tuple(range(1, 6)))
    images = torch.full((2, 5, 3, 4), 100.0)
    assert (pixels.to_rgb(images) == 127.5).all()
    images[:, 4] += 5 * 2.5  # as many deviations
    images[:, 1] -= 2 * 2.5
    assert pixels.to_rgb(images).shape == (2, 3, 3, 4)
    assert (pixels.to_rgb(images)[:, 1] == 0).all()
    shown = PixelFormat(*(5, 'uint16', pixels.mean, pixels.std), (4, 0, 1))
    found = shown.to_rgb(images[0])
    assert [x.unique().item() for x in found] == [255, 127.5, 0]
    gray = PixelFormat(1, 'uint8', (0.0,), (1.0,)).to_rgb(images[:, :1])
    assert gray.shape == (2, 3, 3, 4)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert RGB.to_rgb(images[:, :3]).data_ptr() == images.data_ptr()
