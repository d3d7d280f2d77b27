"""The registered orders, and orders of one's own."""

import pytest
import torch
import torch.nn.functional as F
from helpers import saim
from mmengine.registry import MODELS

from saim_mm import Order, PredictionOrder, SemanticOrder
from saim_mm.models import orders
from saim_mm.models.order import literal_masks
from saim_mm.models.orders import build_order
from saim_mm.models.vit_outputs import layer_output

NAMES = [
    'stochastic',
    'raster',
    'snake',
    'spiral',
    'center_out',
    'checkerboard',
]


def steps(name, grid, **kwargs):
    """The step of each patch, rows of a grid."""
    order = build_order(name).sample(1, grid, 'cpu', **kwargs)
    return order.indices[0].argsort().reshape(grid)


def test_fixed_orders():
    assert steps('raster', (2, 3)).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert steps('snake', (3, 3)).tolist() == [
        [0, 1, 2],
        [5, 4, 3],
        [6, 7, 8],
    ]
    assert steps('spiral', (3, 4)).tolist() == [
        [11, 10, 9, 8],
        [2, 1, 0, 7],
        [3, 4, 5, 6],
    ]
    # Of squares, each row by row.
    assert steps('snake', (4, 4), segment_size=2).tolist() == [
        [0, 1, 4, 5],
        [2, 3, 6, 7],
        [12, 13, 8, 9],
        [14, 15, 10, 11],
    ]


def test_center_out_comes_in_rings():
    torch.manual_seed(0)
    for grid, ends in (((14, 14), (4, 36, 100, 196)), ((8, 12), (4, 32, 48))):
        found = steps('center_out', grid)
        rows, columns = grid
        row = (torch.arange(rows) - (rows - 1) / 2).abs() / rows * 14
        column = (torch.arange(columns) - (columns - 1) / 2).abs()
        column = column / columns * 14
        distance = torch.maximum(row[:, None], column)  # half-widths
        ring = sum((distance >= half).long() for half in (1, 3, 5))
        for number in range(3):
            end = (ring <= number).sum()
            assert found[ring <= number].max() == end - 1
            if number < len(ends) - 1 and grid == (14, 14):
                assert end == ends[number]
    first = {
        build_order('center_out').sample(1, (8, 8), 'cpu').indices[0, 0]
        for _ in range(50)
    }
    assert {i.item() for i in first} == {27, 28, 35, 36}


def test_checkerboard_fills_the_gaps():
    torch.manual_seed(0)
    found = steps('checkerboard', (4, 5))
    row, column = torch.arange(4)[:, None], torch.arange(5)
    black = (row + column) % 2 == 0
    assert found[black].max() == 9 and found[~black].min() == 10
    assert not torch.equal(found, steps('checkerboard', (4, 5)))


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('grid', [(1, 7), (4, 6), (6, 4), (5, 5), (14, 14)])
def test_every_order_is_a_permutation(name, grid):
    for size in (1, 2):
        if any(side % size for side in grid):
            continue
        order = build_order(name).sample(3, grid, 'cpu', size)
        order.check(grid[0] * grid[1])
        assert order.segment_length == size**2
        segments = order.indices.reshape(3, -1, size**2)
        square = torch.tensor([0, 1, grid[1], grid[1] + 1])[: size**2]
        assert (segments - segments[..., :1] == square).all()


@pytest.mark.parametrize('name', [*NAMES, 'semantic'])
def test_orders_do_not_depend_on_the_processes(name, monkeypatch):
    """Of two processes, each with half of the images, and of one."""
    model = saim(order=name, prefix='random')
    images = torch.randn(6, 3, 32, 32)

    def sample(rank, processes):
        for module in ('saim_mm.models.orders', 'saim_mm.models.saim'):
            monkeypatch.setattr(
                f'{module}.get_dist_info', lambda: (rank, processes)
            )
        torch.manual_seed(0)
        order = model.sample_order(images[rank::processes])
        order = model.sample_prefix(order)
        return order.indices, order.prefix

    one = sample(0, 1)
    for rank in range(2):
        for mine, whole in zip(sample(rank, 2), one):
            assert torch.equal(mine, whole[rank::2])


def test_a_random_prefix_is_uniform():
    model = saim(prefix='random')
    torch.manual_seed(0)
    order = build_order('raster').sample(6000, (2, 4), 'cpu')
    counts = model.sample_prefix(order).prefix.bincount(minlength=8)
    assert counts[0] == 0 and len(counts) == 8
    assert (counts[1:] - 6000 / 7).abs().max() < 140  # 5 deviations
    # Of squares of four patches, whole ones.
    order = build_order('raster').sample(99, (4, 4), 'cpu', 2)
    found = model.sample_prefix(order).prefix.unique().tolist()
    assert found == [4, 8, 12]


def test_a_fixed_prefix_is_not_predicted():
    model = saim(prefix=0.5)
    order = model.sample_prefix(model.sample_order(torch.zeros(2, 3, 32, 32)))
    assert (order.prefix, order.predicted) == (8, 8)
    content, query = literal_masks(order)
    first, last = order.indices[0, :8], order.indices[0, 8:]
    assert content[0][first][:, first].all()
    assert not content[0][first][:, last].any()
    assert not query[0][first].any() and query[0][last][:, first].all()
    step = order.indices[0].argsort()
    assert torch.equal(query[0][last], step < step[last].unsqueeze(1))


def test_a_seed_gives_what_it_gave_with_a_generator():
    """Noise of the CPU's generator, and of another of the same seed."""
    torch.manual_seed(3)
    model = saim()
    images = torch.zeros(2, 3, 32, 32)
    torch.manual_seed(3)
    expected = model.sample_order(images).indices
    before = torch.get_rng_state()
    generator = torch.Generator().manual_seed(3)
    assert torch.equal(
        model.sample_order(images, generator=generator).indices, expected
    )
    assert torch.equal(torch.get_rng_state(), before)


def test_fixed_orders_draw_nothing():
    for name in ('raster', 'snake', 'spiral'):
        model, images = saim(order=name), torch.zeros(2, 3, 32, 32)
        before = torch.get_rng_state()
        model.loss(images)
        assert torch.equal(torch.get_rng_state(), before)


def test_semantic_order_by_hand():
    """Distances from the highest attention; noise between equal ones."""
    seen = torch.zeros(2, 12)
    seen[0, 5], seen[1, 0] = 1, 1  # row 1, column 1; row 0, column 0
    torch.manual_seed(0)
    found = SemanticOrder().sample(2, (3, 4), 'cpu', seen=seen).indices
    for image, center in enumerate(((1, 1), (0, 0))):
        row, column = found[image] // 4, found[image] % 4
        squared = (row - center[0]) ** 2 + (column - center[1]) ** 2
        assert (squared.diff() >= 0).all() and squared[0] == 0
    assert set(found[0, 1:5].tolist()) == {1, 4, 6, 9}
    seen = torch.rand(2, 12)
    found = SemanticOrder('attention').sample(2, (3, 4), 'cpu', seen=seen)
    assert (seen.gather(1, found.indices).diff(dim=1) < 0).all()
    # Of segments: by the mean of their patches.
    seen = torch.zeros(1, 4, 4)
    seen[0, 0, 0], seen[0, 2:, 2:] = 1, 0.5
    found = SemanticOrder('attention').sample(
        1, (4, 4), 'cpu', 2, seen=seen.flatten(1)
    )
    assert found.indices[0, :5].tolist() == [10, 11, 14, 15, 0]


def test_semantic_order_leaves_the_model_as_it_was():
    """It looks in evaluation mode, without gradients, and sees the image."""
    model = saim(order='semantic', backbone__drop_path_rate=0.5)
    model.init_weights()
    model.train()
    images = torch.randn(3, 3, 32, 32)
    modes = {n: m.training for n, m in model.named_modules()}
    state = torch.get_rng_state()
    view = model.look(images)
    assert torch.equal(torch.get_rng_state(), state)  # no drop path
    assert {n: m.training for n, m in model.named_modules()} == modes
    assert not view.patches.requires_grad
    assert not view.attention('self').requires_grad
    tokens = layer_output(model.backbone.eval(), images, -1, 'raw')
    assert torch.equal(view.patches, tokens[:, 1:])
    assert model.backbone.out_type == 'cls_token'
    assert model.backbone.out_indices == [3]
    order = model.sample_order(images)
    center = view.attention('cls').argmax(dim=1)
    assert torch.equal(order.indices[:, 0], center)


class Own(Order):
    random = False

    def see(self, images, view):
        assert view is None
        return F.avg_pool2d(images.mean(1, keepdim=True), 8).flatten(1)

    def forward(self, grid, noise, seen):
        assert noise is None
        return -seen


def test_an_order_of_ones_own_may_see_the_image(monkeypatch):
    monkeypatch.setitem(MODELS.module_dict, 'Own', Own)
    model = saim(order='Own')
    images = torch.zeros(2, 3, 32, 32)
    images[0, :, 8:16, 24:] = 3
    images[1, :, 24:, :8] = 3
    assert model.sample_order(images).indices[:, 0].tolist() == [7, 12]
    with pytest.raises(ValueError, match="order='Own': must be the same"):
        saim(order=dict(type='Own'), neck__depth=0)


def test_wrong_shapes_are_named():
    class Wrong(Order):
        def forward(self, grid, noise, seen):
            return noise[:, 1:]

    class WrongSight(Own):
        def see(self, images, view):
            return images.mean((1, 2, 3)).unsqueeze(1)

    images = torch.zeros(2, 3, 32, 32)
    for part, words in (
        (Wrong, r'order=Wrong: shape=\(2, 15\): must be \(2, 16\)'),
        (WrongSight, r'order=WrongSight.see: shape=\(2, 1\)'),
    ):
        model = saim()
        model.order = part()
        with pytest.raises(ValueError, match=words):
            model.loss(images)


@pytest.mark.parametrize(
    'change, words',
    [
        (dict(order='zigzag'), ["order='zigzag'", 'spiral', 'SpiralOrder']),
        (dict(order=dict(type='SAIMViT')), ['order', 'SAIMViT', 'Order']),
        (dict(order={}), ['order={}', 'type']),
        (dict(order=3), ['order=3', 'raster']),
        (
            dict(order=dict(type='SemanticOrder', kind='center')),
            ['SemanticOrder.kind', 'center', 'attention_center'],
        ),
        (
            dict(order=dict(type='SemanticOrder', similarity='mean')),
            ['SemanticOrder.similarity', 'mean', 'gap'],
        ),
        *(
            (
                dict(order=order, neck__depth=0),
                ['order', 'raster', 'neck.depth'],
            )
            for order in ('semantic', 'checkerboard')
        ),
        (dict(prefix=1.0), ['prefix=1.0', 'random', '16', 'leaves one']),
        (dict(prefix=0.99), ['prefix=0.99', '16']),
        (dict(prefix=0.01), ['prefix=0.01', '16']),
        (dict(prefix=True), ['prefix=True', 'random']),
        (dict(prefix='half'), ['prefix', 'half', 'random']),
        (dict(prefix=0.5, segment_size=4), ['prefix=0.5', '1 patches']),
        (dict(prefix='random', segment_size=4), ['prefix', 'random']),
        (
            dict(prefix=0.5, head__predictor='transformer'),
            ['head.predictor', 'transformer', 'prefix'],
        ),
    ],
)
def test_bad_values_are_named(change, words):
    with pytest.raises(ValueError) as error:
        saim(**change)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    'indices, prefix, words',
    [
        ([[0] + list(range(15))], 0, 'indices[0]=[0, 0, 1, 2'),
        ([list(range(16)), list(range(1, 17))], 0, 'indices[1]=[1, 2, 3'),
        ([list(range(9))], 0, 'a permutation of 0 to 15'),
        ([list(range(16))], 16, 'order.prefix=16: must be less than the 16'),
        ([list(range(16))], [16], 'order.prefix=[16]'),
        ([list(range(16))], [-1], 'order.prefix=[-1]'),
    ],
)
def test_what_is_no_order_is_named_before_training(indices, prefix, words):
    """By the first loss, whatever made it."""
    if isinstance(prefix, list):
        prefix = torch.tensor(prefix)
    order = PredictionOrder(torch.tensor(indices), prefix=prefix)
    model = saim()
    with pytest.raises(ValueError) as error:
        model.loss(torch.zeros(len(indices), 3, 32, 32), order=order)
    assert words in str(error.value)


def test_build_order_takes_what_is_registered():
    assert set(NAMES) <= set(MODELS.module_dict)
    for name in NAMES:
        part = build_order(name)
        assert type(build_order(type(part).__name__)) is type(part)
        assert type(build_order(dict(type=name))) is type(part)
    assert isinstance(build_order(dict(type=orders.RasterOrder)), Order)
