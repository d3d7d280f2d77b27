"""The order in which the patches of an image are predicted."""

from typing import Optional

import torch
from torch import Tensor

from ..utils.check import check_arg


class PredictionOrder:
    r"""One prediction order for each image of a batch.

    A model that is causal over tokens *in this order* computes what the
    paper's content and query masks compute over tokens in raster order
    (Eq. 3): the token at step ``t`` sees the tokens at steps ``<= t`` as
    content, and the patch at step ``t`` is predicted from those at steps
    ``< t``.

    Patches may also be predicted some at a time (RandSAC: Hua et al. 2022,
    "Self-supervision through Random Segments with Autoregressive Coding"):
    then ``n`` steps after each other are a segment, whose patches are
    predicted in parallel from the segments before.

    Args:
        indices (Tensor): int64, (B, L). ``indices[b, t]`` is the raster index
            of the patch of image ``b`` that is predicted at step ``t``.
        segment_length (int): Patches n of a segment; divides L. Defaults to 1,
            one patch after the other.
        predicted (int, optional): Number K of patches that are predicted, the
            last ones. Defaults to None, all L.
    """

    #: The orders that :meth:`sample` knows.
    names = ('stochastic', 'raster')

    def __init__(
        self,
        indices: Tensor,
        segment_length: int = 1,
        predicted: Optional[int] = None,
    ) -> None:
        length = indices.shape[1]
        self.indices = indices
        self.segment_length = segment_length
        self.predicted = length if predicted is None else predicted

    @classmethod
    def from_noise(cls, noise: Tensor) -> 'PredictionOrder':
        """Patch ``i`` precedes patch ``j`` if ``noise[i] < noise[j]``.

        Args:
            noise (Tensor): (B, L), the paper's vector z.
        """
        return cls(noise.argsort(dim=1))

    @staticmethod
    def partition_grid(grid: tuple[int, int], segment_size: int) -> Tensor:
        """Cut a grid of patches into squares.

        Args:
            grid (tuple[int, int]): Rows and columns of patches.
            segment_size (int): Side of the squares, in patches.

        Returns:
            Tensor: int64, (squares, patches of each), raster indices; squares
            and patches row by row.

        Raises:
            ValueError: If the grid cannot be cut into such squares.
        """
        rows, columns = grid
        check_arg(
            isinstance(segment_size, int)
            and segment_size > 0
            and rows % segment_size == columns % segment_size == 0,
            'segment_size',
            segment_size,
            f'a side of squares that {rows} x {columns} patches can be cut '
            'into',
        )
        side = segment_size
        patches = torch.arange(rows * columns).reshape(
            rows // side, side, columns // side, side
        )
        return patches.transpose(1, 2).reshape(-1, segment_size**2)

    @classmethod
    def sample(
        cls,
        name: str,
        batch_size: int,
        grid: tuple[int, int],
        device: torch.device,
        segment_size: int = 1,
    ) -> 'PredictionOrder':
        """Sample an order for every image of a batch.

        Args:
            name (str): ``'stochastic'``, a permutation drawn uniformly for
                each image, or ``'raster'``, row by row.
            batch_size (int): B.
            grid (tuple[int, int]): Rows and columns of patches.
            device (torch.device): Where the images are.
            segment_size (int): Side, in patches, of the squares that are put
                in order and predicted whole. Defaults to 1, single patches.

        Raises:
            ValueError: As :meth:`partition_grid`.
        """
        patches = cls.partition_grid(grid, segment_size).to(device)
        if name == 'stochastic':
            noise = torch.rand(batch_size, len(patches), device=device)
            indices = patches[noise.argsort(dim=1)].flatten(1)
        else:
            indices = patches.flatten().expand(batch_size, -1)
        return cls(indices, segment_length=segment_size**2)

    def with_predict_ratio(self, share: float) -> 'PredictionOrder':
        """The same order, of which only the last patches are predicted.

        Args:
            share (float): Of the patches, more than 0 and at most 1.
        """
        number = max(1, round(share * self.indices.shape[1]))
        return PredictionOrder(self.indices, self.segment_length, number)

    def select_predicted(self, tokens: Tensor) -> Tensor:
        """Of tokens in the prediction order those that are predicted.

        Args:
            tokens (Tensor): (B, L, C).

        Returns:
            Tensor: (B, K, C).
        """
        return tokens[:, tokens.shape[1] - self.predicted :]

    def content_mask(self) -> Optional[Tensor]:
        """What the content stream sees (see ``SAIMViT.forward_causal``).

        Returns:
            Tensor | None: bool, (T, T) for its T = L + 1 - n tokens, the class
            token first, at (i, j) whether token i sees token j: its own
            segment and those before. None: tokens 1..i, plain causal.
        """
        if self.segment_length == 1:
            return None
        token = torch.arange(
            self.indices.shape[1] + 1 - self.segment_length,
            device=self.indices.device,
        )
        # The class token is segment 0.
        segment = (token + self.segment_length - 1) // self.segment_length
        return segment <= segment.unsqueeze(1)

    def query_mask(self) -> Optional[Tensor]:
        """What the query stream sees of the content stream.

        Returns:
            Tensor | None: bool, (K, T), at (i, j) whether query i, of the last
            K, sees token j: the class token and the segments before its own.
            None: tokens 1..i, plain causal.
        """
        length, device = self.indices.shape[1], self.indices.device
        if self.segment_length == 1 and self.predicted == length:
            return None
        token = torch.arange(length + 1 - self.segment_length, device=device)
        step = torch.arange(length - self.predicted, length, device=device)
        before = step // self.segment_length * self.segment_length  # patches
        return token <= before.unsqueeze(1)

    def sort(self, tokens: Tensor) -> Tensor:
        """Put tokens that are in raster order in the prediction order.

        Args:
            tokens (Tensor): (B, L, C), or (1, L, C) for all images.

        Returns:
            Tensor: (B, L, C).
        """
        return tokens.take_along_dim(self.indices.unsqueeze(-1), dim=1)

    def unsort(self, tokens: Tensor) -> Tensor:
        """Put tokens that are in the prediction order in raster order.

        Args:
            tokens (Tensor): (B, L, C).

        Returns:
            Tensor: (B, L, C).
        """
        return tokens.take_along_dim(
            self.indices.argsort(dim=1).unsqueeze(-1), dim=1
        )

    def masks(self) -> tuple[Tensor, Tensor]:
        """The paper's two masks (Eq. 3), for looking at: no model needs them.

        Rows and columns are raster indices.

        Returns:
            tuple[Tensor, Tensor]: bool, (B, L, L). At (i, j) whether patch i
            sees patch j: as content, itself (and its segment) included, and
            as query, excluded. (Everything sees the class token.)
        """
        step = (
            self.indices.argsort(dim=1) // self.segment_length
        )  # of each patch
        row, column = step.unsqueeze(2), step.unsqueeze(1)
        return column <= row, column < row
