"""Small images, decoded once, cropped and flipped in batches."""

import math
import os
import random

import numpy as np
import pytest
import torch
from helpers import assert_same, config, in_two, train
from mmengine.config import Config
from mmpretrain.datasets import RandomResizedCrop
from PIL import Image
from sklearn.datasets import load_sample_image

from saim_mm import ImagesInMemory
from saim_mm.datasets import in_memory
from saim_mm.datasets.image_folder import TooManyUnreadable
from saim_mm.datasets.images import read_image
from saim_mm.datasets.sampler import SeededIndex
from saim_mm.engine.checks.config import check_config
from saim_mm.models.batch_crop import ATTEMPTS, BatchRandomResizedCrop

BASE = 'configs/_base_/datasets/cifar10-in-memory_bs512_saim.py'


def small_ones(folder, number=40, size=(32, 32)):
    """Parts of a photograph, as JPEG and as PNG, one of them grey."""
    folder.mkdir(parents=True, exist_ok=True)
    photo = Image.fromarray(load_sample_image('flower.jpg'))
    width, height = size
    draw = random.Random(0)
    for index in range(number):
        left = draw.randrange(photo.width - 3 * width)
        top = draw.randrange(photo.height - 3 * height)
        part = photo.crop((left, top, left + 3 * width, top + 3 * height))
        part = part.resize(size).convert('L' if index == 1 else 'RGB')
        part.save(folder / f'{index:02}.{"png" if index % 2 else "jpg"}')
    return folder


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """Forty readable ones, and a broken one in their middle."""
    folder = small_ones(tmp_path_factory.mktemp('small') / 'images')
    (folder / '20_broken.jpg').write_bytes(b'\xff\xd8\xff\xe0 and no more')
    return folder


def in_memory_config(images, work_dir, **arguments):
    """A tiny pre-training whose data are the base config's."""
    cfg = config(images, work_dir, **arguments)
    base = Config.fromfile(BASE)
    cfg.data_preprocessor = base.data_preprocessor
    cfg.train_dataloader.dataset = base.train_dataloader.dataset
    cfg.train_dataloader.dataset.data_root = str(images)
    return cfg


def test_every_image_as_it_is(images):
    """The broken one keeps its place, where another stands, by the draw."""
    dataset = ImagesInMemory(data_root=str(images))
    paths = sorted(str(path) for path in images.iterdir())
    assert len(dataset) == len(paths) == 41
    for index, path in enumerate(paths):
        item = dataset[SeededIndex(index, (0, 7))]
        found = item['data_samples'].img_path
        expected = read_image(found).transpose(2, 0, 1)
        assert torch.equal(item['inputs'], torch.from_numpy(expected.copy()))
        assert (found == path) == ('broken' not in path)
    broken = paths.index(str(images / '20_broken.jpg'))
    stand_ins = [
        {
            dataset[SeededIndex(broken, (0, key))]['data_samples'].img_path
            for _ in range(3)
        }
        for key in range(20)
    ]
    assert all(len(names) == 1 for names in stand_ins)
    assert len(set.union(*stand_ins)) > 5


def test_parts(images, tmp_path):
    """The pixels are those of the path, whatever part is taken."""
    (tmp_path / 'list.txt').write_text('03.png\n20_broken.jpg\n07.png\n')
    listed = ImagesInMemory(
        data_root=str(images), ann_file=str(tmp_path / 'list.txt')
    )
    whole = ImagesInMemory(data_root=str(images), serialize_data=False)
    for dataset, names in (
        (listed, ['03.png', None, '07.png']),
        (whole.get_subset([5, 20, 7]), ['05.png', None, '07.png']),
        (
            ImagesInMemory(data_root=str(images), indices=[5, 7]),
            ['05.png', '07.png'],
        ),
    ):
        assert len(dataset) == len(names)
        for index, name in enumerate(names):
            item = dataset[index]
            path = item['data_samples'].img_path
            assert path == str(images / name) if name else 'broken' not in path
            expected = read_image(path).transpose(2, 0, 1)
            assert item['inputs'].numpy().tolist() == expected.tolist()


def test_what_is_refused(images, tmp_path, monkeypatch):
    root = str(images)
    with pytest.raises(ValueError, match=r'dataset.pipeline=.*random_crop'):
        ImagesInMemory(data_root=root, pipeline=[dict(type='PackInputs')])
    small_ones(tmp_path / 'mixed', 2)
    small_ones(tmp_path / 'mixed/z', 1, size=(24, 32))
    with pytest.raises(
        ValueError,
        match=r"type='ImagesInMemory': must be 'UnlabelledImages'.*"
        r'z/00.jpg has 24 x 32 pixels, .*mixed/00.jpg 32 x 32',
    ):
        ImagesInMemory(data_root=str(tmp_path / 'mixed'))
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    monkeypatch.setattr(in_memory, 'SHARE', 41 * 32 * 32 * 3 / memory)
    ImagesInMemory(data_root=root)
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '2')
    with pytest.raises(
        ValueError,
        match="'UnlabelledImages'.*41 images of 32 x 32 .* 2 processes, .*GiB",
    ):
        ImagesInMemory(data_root=root)
    broken = tmp_path / 'broken'
    broken.mkdir()
    (broken / 'a.jpg').write_bytes(b'no image')
    with pytest.raises(ValueError, match='must hold an image that can be'):
        ImagesInMemory(data_root=str(broken))
    for index in range(11):
        (broken / f'{index}.jpg').write_bytes(b'no image')
    with pytest.raises(TooManyUnreadable, match='11 of 12 files are unread'):
        ImagesInMemory(data_root=str(broken))


@pytest.mark.parametrize('size', [(32, 32), (28, 28), (40, 24)])
def test_pixels_are_pillows(size):
    """In autocast too: all but a hundredth, which one level parts."""
    width, height = size
    photo = Image.fromarray(load_sample_image('china.jpg'))
    images = [
        photo.crop((x, 0, x + 4 * width, 4 * height)).resize(size)
        for x in range(200)
    ]
    batch = torch.stack(
        [torch.from_numpy(np.array(x)).permute(2, 0, 1) for x in images]
    )
    augment = BatchRandomResizedCrop((0.1, 1.0), (0.5, 2.0))
    torch.manual_seed(0)
    with torch.autocast('cpu', torch.bfloat16):
        crops = augment(batch)
    torch.manual_seed(0)
    draws = torch.rand(2 * ATTEMPTS + 3, len(images))
    boxes = torch.stack(augment.boxes(draws[1:], height, width), 1).tolist()
    differences = []
    for image, crop, flip, box in zip(images, crops, draws[0], boxes):
        top, left, rows, columns = box
        assert 0 <= top <= height - rows and 0 <= left <= width - columns
        part = image.crop((left, top, left + columns, top + rows))
        part = np.array(part.resize(size, Image.BICUBIC))
        expected = torch.from_numpy(part).permute(2, 0, 1)
        if flip < 0.5:
            expected = expected.flip(2)
        differences.append((crop - expected).abs())
    differences = torch.stack(differences)
    assert crops.dtype == torch.float32
    assert differences.max() <= 1
    assert (differences > 0).float().mean() < 0.01


def literal_box(draws, areas, ratios, height, width):
    """mmpretrain's loop over the same random numbers, one image."""
    for area, ratio in zip(draws[:ATTEMPTS], draws[ATTEMPTS:-2]):
        area = (areas[0] + (areas[1] - areas[0]) * area) * height * width
        low, high = map(math.log, ratios)
        ratio = math.exp(low + (high - low) * ratio)
        columns = round(math.sqrt(area * ratio))
        rows = round(math.sqrt(area / ratio))
        if 0 < columns <= width and 0 < rows <= height:
            top = math.floor(draws[-2] * (height - rows + 1))
            left = math.floor(draws[-1] * (width - columns + 1))
            return [top, left, rows, columns]
    crop = RandomResizedCrop(1, areas, ratios, max_attempts=0)
    return list(crop.rand_crop_params(np.empty((height, width, 3))))


@pytest.mark.parametrize(
    ('areas', 'ratios', 'size'),
    [
        ((0.08, 1.0), (3 / 4, 4 / 3), (32, 32)),
        ((0.67, 1.0), (3 / 4, 4 / 3), (28, 28)),
        ((0.9, 1.0), (0.2, 5.0), (32, 24)),  # often no box of ten fits
        ((1.0, 1.0), (2.0, 3.0), (32, 32)),  # none ever fits
        ((1.0, 1.0), (0.3, 0.5), (24, 32)),
        ((1.0, 1.0), (0.05, 0.05), (32, 32)),
    ],
)
def test_boxes_are_mmpretrains(areas, ratios, size):
    height, width = size
    draws = torch.rand(
        (2 * ATTEMPTS + 2, 3000),
        generator=torch.Generator().manual_seed(0),
        dtype=torch.float64,
    )
    augment = BatchRandomResizedCrop(areas, ratios)
    boxes = torch.stack(augment.boxes(draws, height, width), 1).int()
    assert boxes.tolist() == [
        literal_box(column, areas, ratios, height, width)
        for column in draws.T.tolist()
    ]


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(crop_ratio_range=(0.5, 1.5)), r'crop_ratio_range=\(0.5, 1.5\)'),
        (dict(crop_ratio_range=(0.9, 0.5)), 'the least and the most'),
        (dict(aspect_ratio_range=(0, 1)), r'aspect_ratio_range=\(0, 1\)'),
        (dict(flip_prob=2), 'flip_prob=2: must be a probability'),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        BatchRandomResizedCrop(**arguments)


def test_the_thinnest_box_has_a_pixel():
    augment = BatchRandomResizedCrop((0.1, 1.0), (0.001, 0.002))
    images = torch.randint(0, 256, (64, 3, 8, 8), dtype=torch.uint8)
    assert augment(images).isfinite().all()


def test_flips():
    """With probability; and in training alone is anything done."""
    image = torch.zeros(1, 1, 4, 8, dtype=torch.uint8)
    image[..., :4] = 200
    torch.manual_seed(0)
    whole = dict(crop_ratio_range=(1, 1), aspect_ratio_range=(2, 2))
    for prob in (0.0, 0.3, 1.0):
        augment = BatchRandomResizedCrop(**whole, flip_prob=prob)
        found = augment(image.expand(2000, -1, -1, -1))
        left = (found[:, 0, 0, 0] == 0).float().mean().item()
        assert abs(left - prob) < (0.04 if prob == 0.3 else 1e-9)
        flipped = found[:, 0, 0, 0] == 0
        assert torch.equal(found[flipped].flip(3), 0 * found[flipped] + image)
        assert torch.equal(found[~flipped], 0 * found[~flipped] + image)


def draw_in_a_group(rank, folder, batch):
    torch.manual_seed(3)
    crops = BatchRandomResizedCrop()(batch[rank::2])
    torch.save(crops, folder / f'{rank}.pt')


def test_processes_share_the_draws(tmp_path):
    """Two get the crops that one has."""
    batch = torch.randint(0, 256, (6, 3, 16, 16), dtype=torch.uint8)
    in_two(draw_in_a_group, tmp_path, batch)
    torch.manual_seed(3)
    crops = BatchRandomResizedCrop()(batch)
    for rank in range(2):
        found = torch.load(tmp_path / f'{rank}.pt', weights_only=True)
        assert torch.equal(found, crops[rank::2])


def test_training_goes_on_to_the_bit(images, tmp_path):
    """Interrupted, and with loading processes; other crops, other weights."""
    straight = train(in_memory_config(images, tmp_path / 'a', epochs=2))
    cfg = in_memory_config(images, tmp_path / 'b', epochs=2, workers=2)
    with pytest.raises(KeyboardInterrupt):
        train(cfg, hooks=[dict(type='StopAfter', iteration=13)])
    resumed = train(cfg, True)
    assert resumed.iter == straight.iter == 20
    assert_same(straight.model.state_dict(), resumed.model.state_dict())
    cfg = in_memory_config(images, tmp_path / 'c', epochs=2)
    cfg.data_preprocessor.random_crop.flip_prob = 0.0
    other = train(cfg).model.state_dict()
    assert any(
        not torch.equal(value, other[name])
        for name, value in straight.model.state_dict().items()
    )


def test_images_of_another_size_than_the_models(images, tmp_path):
    cfg = in_memory_config(images, tmp_path, epochs=1)
    cfg.model.backbone.img_size = 48
    with pytest.raises(
        ValueError,
        match=r'img_size=\(48, 48\): must be \(32, 32\), the size of the imag',
    ):
        train(cfg)


def test_broken_files_are_listed(images, tmp_path):
    train(in_memory_config(images, tmp_path, epochs=1))
    (line,) = (tmp_path / 'unreadable_files.txt').read_text().splitlines()
    assert line.startswith(f'{images}/20_broken.jpg\t')


CROP = 'data_preprocessor.random_crop'
PIPELINE = [dict(type='LoadRandomResizedCrop', scale=32)]
PIXELS = [dict(type='LoadPixels', channels=3, dtype='uint16')]


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({CROP: None}, r'random_crop=None: must be a dict .* in memory'),
        ({f'{CROP}.crop_ratio_range': 0.5}, r'crop_ratio_range=0.5'),
        ({f'{CROP}.crop_ratio_range': (0.5, 2)}, r'_range=\(0.5, 2\): must'),
        ({f'{CROP}.flip_probability': 1}, 'flip_prob'),
        ({'train_dataloader.dataset.pipeline': PIPELINE}, 'no pipeline has'),
        ({'train_dataloader.dataset.pipeline': PIXELS}, '8-bit RGB images'),
    ],
    ids=str,
)
def test_what_does_not_fit(images, tmp_path, changes, message):
    cfg = in_memory_config(images, tmp_path, epochs=1)
    cfg.merge_from_dict(changes)
    with pytest.raises(ValueError, match=message):
        check_config(cfg)
        train(cfg)
