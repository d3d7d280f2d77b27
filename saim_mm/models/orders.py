"""The orders that a config can name, each a registered part."""

from __future__ import annotations

import torch
from mmengine.dist import get_dist_info
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from mmpretrain.registry import MODELS as MMPRETRAIN_MODELS
from torch import Tensor

from ..utils.check import check_arg, check_shape
from .order import PredictionOrder
from .teachers import View


class Order(BaseModule):
    """Gives each cell of a grid a value; the smallest comes first.

    A cell is a patch, or a segment of several. An order of one's own is a
    subclass with a :meth:`forward`, registered in MMEngine's ``MODELS``.
    """

    #: Whether :meth:`forward` gets noise.
    random = True
    #: Whether :meth:`see` gets a view of the images (see ``SAIM.look``).
    looks = False

    def forward(
        self,
        grid: tuple[int, int],
        noise: Tensor | None,
        seen: Tensor | None,
    ) -> Tensor:
        """Give each cell its value.

        Args:
            grid: Rows and columns of cells.
            noise: (B, cells), uniform from 0 to 1, if the order is
                :attr:`random`.
            seen: (B, cells), what :meth:`see` returned.

        Returns:
            (B, cells), or (1, cells) for all images; rows of cells
            one after the other.
        """
        raise NotImplementedError

    def see(self, images: Tensor, view: View | None) -> Tensor | None:
        """Look at the images, if the order depends on them.

        Args:
            images: (B, C, H, W), normalised.
            view: What an encoder sees of them, if the order :attr:`looks`.

        Returns:
            (B, L), a value for each patch; a cell of several
            has their mean.
        """
        return None

    def sample(
        self,
        batch_size: int,
        grid: tuple[int, int],
        device: torch.device,
        segment_size: int = 1,
        seen: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> PredictionOrder:
        """Sample an order for every image of a batch.

        In distributed training each process draws the noise for all, and takes
        that of its own images: image j of process r is number j * processes +
        r. So with the same seed everywhere (:class:`~saim_mm.StepSeedHook`)
        the orders do not depend on the number of processes.

        Args:
            batch_size: Images B.
            grid: Rows and columns of patches.
            device: Where the images are.
            segment_size: Side, in patches, of the squares that are put in
                order and predicted whole. Defaults to 1, single patches.
            seen: (B, L), what :meth:`see` returned.
            generator: Of the noise. Defaults to None, the device's own.

        Raises:
            ValueError: As :meth:`PredictionOrder.partition_grid`, or if
                ``forward`` or ``see`` returns another shape.
        """
        cells = PredictionOrder.partition_grid(grid, segment_size)
        # (Neither copy waits for the device: they are small.)
        cells = cells.to(device, non_blocking=True)
        number, name = len(cells), f'order={type(self).__name__}'
        meaning = '(images, cells of the grid), one value for each'
        noise = None
        if self.random:
            rank, processes = get_dist_info()
            noise = torch.rand(
                (batch_size * processes, number),
                device=generator.device if generator else device,
                generator=generator,
            )[rank::processes].to(device)  # (B, cells)
        if seen is not None:
            shape = (batch_size, grid[0] * grid[1])
            check_shape(f'{name}.see', seen, shape, meaning=meaning)
            seen = seen[:, cells].mean(dim=-1)  # (B, L) -> (B, cells)
        rows, columns = (side // segment_size for side in grid)
        values = self((rows, columns), noise, seen)
        shapes = (batch_size, number), (1, number)
        check_shape(name, values, *shapes, meaning=meaning)
        values = values.to(device, non_blocking=True)
        indices = cells[values.argsort(dim=1)].flatten(1)
        return PredictionOrder(  # (B, L)
            indices.expand(batch_size, -1), segment_length=segment_size**2
        )


@MODELS.register_module(name=['StochasticOrder', 'stochastic'])
class StochasticOrder(Order):
    """A permutation drawn uniformly for each image: SAIM's."""

    def forward(self, grid, noise, seen):
        return noise


@MODELS.register_module(name=['RasterOrder', 'raster'])
class RasterOrder(Order):
    """Row by row, each from left to right."""

    random = False

    def forward(self, grid, noise, seen):
        rows, columns = grid
        return torch.arange(rows * columns).unsqueeze(0)


@MODELS.register_module(name=['SnakeOrder', 'snake'])
class SnakeOrder(Order):
    """Row by row, alternately from left to right and from right to left."""

    random = False

    def forward(self, grid, noise, seen):
        rows, columns = grid
        values = torch.arange(rows * columns).reshape(grid)
        values[1::2] = values[1::2].flip(1)
        return values.reshape(1, -1)


@MODELS.register_module(name=['SpiralOrder', 'spiral'])
class SpiralOrder(Order):
    """In a spiral from the middle outwards; the top left cell is the last."""

    random = False

    def forward(self, grid, noise, seen):
        rows, columns = grid
        left, path = torch.arange(rows * columns).reshape(grid), []
        while left.numel():  # from the outside inwards
            path.append(left[0])
            left = left[1:].rot90()
        return torch.cat(path).flip(0).argsort().unsqueeze(0)


@MODELS.register_module(name=['CheckerboardOrder', 'checkerboard'])
class CheckerboardOrder(Order):
    """The black cells at random, then the white ones at random.

    So each of the second half is predicted from all its neighbours.
    """

    def forward(self, grid, noise, seen):
        row, column = coordinates(grid, noise.device)
        return noise + (row + column) % 2


@MODELS.register_module(name=['CenterOutOrder', 'center_out'])
class CenterOutOrder(Order):
    """From the middle outwards in four rings, at random within each.

    SemAIM's ``center2out`` (Song et al. 2024): noise, minus 1 within each of
    three nested rectangles in the middle, of 1, 3 and 5 sevenths of the grid's
    height and width.
    """

    def forward(self, grid, noise, seen):
        row, column = coordinates(grid, noise.device)
        rows, columns = grid
        # From the middle, in halves of the grid.
        distance = torch.maximum(
            (row - (rows - 1) / 2).abs() / (rows / 2),
            (column - (columns - 1) / 2).abs() / (columns / 2),
        )
        for share in (1 / 7, 3 / 7, 5 / 7):
            noise = noise - (distance < share).to(noise)
        return noise


def coordinates(
    grid: tuple[int, int], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Row and column of each cell.

    Returns:
        int64, (cells,) each, row by row.
    """
    rows, columns = grid
    index = torch.arange(rows * columns, device=device)
    return index // columns, index % columns


def build_order(order: str | dict) -> Order:
    """Build an order, naming what there is if it is none.

    Args:
        order: The name of a registered order, such as 'raster', 'RasterOrder'
            or one of one's own, or ``dict(type=name, ...)``.

    Raises:
        ValueError: If there is no such order.
    """
    config = dict(type=order) if isinstance(order, str) else order
    known = sorted(
        name
        for name, part in MODELS.module_dict.items()
        if isinstance(part, type) and issubclass(part, Order)
    )
    name = config.get('type') if isinstance(config, dict) else None
    if isinstance(name, str) and name:
        part = MMPRETRAIN_MODELS.get(name)
    else:
        part = name
    check_arg(
        isinstance(part, type) and issubclass(part, Order),
        'order',
        order,
        f'one of {[n for n in known if n.islower()]}, or a dict whose type is '
        f'one of {[n for n in known if not n.islower()]} or an Order of your '
        'own in a module that custom_imports names',
    )
    return MMPRETRAIN_MODELS.build(config)
