"""The order in which the patches of an image are predicted."""

from __future__ import annotations

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

    And the first ``S`` patches may be a prefix (AIM: El-Nouby et al. 2024,
    "Scalable Pre-training of Large Autoregressive Image Models"): they and
    the class token see each other, and are not predicted.

    Args:
        indices: int64, (B, L). ``indices[b, t]`` is the raster index of the
            patch of image ``b`` that is predicted at step ``t``.
        segment_length: Patches n of a segment; divides L. Defaults to 1, one
            patch after the other.
        prefix: Number S of patches in the prefix, whole segments: one for all
            images, and the K = L - S behind it are predicted; or int64, (B,),
            one for each, then K = L, and :meth:`counted` says which of them
            are behind it.
    """

    def __init__(
        self,
        indices: Tensor,
        segment_length: int = 1,
        prefix: int | Tensor = 0,
    ) -> None:
        self.indices = indices
        self.segment_length = segment_length
        self.predicted = indices.shape[1]  # K
        if isinstance(prefix, int):
            self.predicted -= prefix
        self.prefix = prefix

    @classmethod
    def from_noise(cls, noise: Tensor) -> PredictionOrder:
        """Patch ``i`` precedes patch ``j`` if ``noise[i] < noise[j]``.

        Noise is the paper's vector z, (B, L).
        """
        return cls(noise.argsort(dim=1))

    @staticmethod
    def partition_grid(grid: tuple[int, int], segment_size: int) -> Tensor:
        """Cut a grid of patches into squares.

        Args:
            grid: Rows and columns of patches.
            segment_size: Side of the squares, in patches.

        Returns:
            int64, (squares, patches of each), raster indices; squares
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

    def with_prefix(self, prefix: int | Tensor) -> PredictionOrder:
        """The same order, of which the first patches are a prefix.

        Args:
            prefix: As for the class.
        """
        return PredictionOrder(self.indices, self.segment_length, prefix)

    def check(self, length: int) -> None:
        """Refuse an order of other patches, or one that is none.

        (It waits for the device: not for every step.)

        Args:
            length: Patches L of an image.

        Raises:
            ValueError: If an image's indices are no permutation of 0 to L - 1,
                or a prefix leaves nothing to predict.
        """
        patches = torch.arange(length, device=self.indices.device)
        for number, indices in enumerate(self.indices):
            check_arg(
                len(indices) == length
                and torch.equal(indices.sort()[0], patches),
                f'order.indices[{number}]',
                indices.tolist(),
                f'a permutation of 0 to {length - 1}, the raster indices of '
                'the patches',
            )
        prefix = torch.as_tensor(self.prefix)
        check_arg(
            bool(((prefix >= 0) & (prefix < length)).all())
            and bool((prefix % self.segment_length == 0).all()),
            'order.prefix',
            prefix.tolist(),
            f'less than the {length} patches of an image, of which those '
            'behind it are predicted, and whole segments',
        )

    def select_predicted(self, tokens: Tensor) -> Tensor:
        """Of tokens in the prediction order those that are predicted.

        Args:
            tokens: (B, L, C); returned are (B, K, C).
        """
        return tokens[:, tokens.shape[1] - self.predicted :]

    def counted(self) -> Tensor | None:
        """Which of the K predictions are behind their image's prefix.

        Returns:
            bool, (B, K). None: all.
        """
        if isinstance(self.prefix, int):
            return None
        step = torch.arange(self.predicted, device=self.indices.device)
        return step >= self.prefix.unsqueeze(1)

    def content_mask(self) -> Tensor | None:
        """What the content stream sees (see ``SAIMViT.forward_causal``).

        Returns:
            bool, (T, T) for its T = L + 1 - n tokens, the class
            token first, at (i, j) whether token i sees token j: its own
            segment, those before, and the prefix; (B, 1, T, T) if each image
            has its own prefix. None: tokens 1..i, plain causal.
        """
        no_prefix = isinstance(self.prefix, int) and self.prefix == 0
        if self.segment_length == 1 and no_prefix:
            return None
        token = torch.arange(
            self.indices.shape[1] + 1 - self.segment_length,
            device=self.indices.device,
        )
        # The class token is segment 0.
        segment = (token + self.segment_length - 1) // self.segment_length
        mask = segment <= segment.unsqueeze(1)  # (T, T)
        if no_prefix:
            return mask
        prefix = self.prefix
        if isinstance(prefix, Tensor):
            prefix = prefix.reshape(-1, 1, 1, 1)
        return mask | (token <= prefix)  # token S is the prefix's last patch

    def query_mask(self) -> Tensor | None:
        """What the query stream sees of the content stream.

        Returns:
            bool, (K, T), at (i, j) whether query i, of the last
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
            tokens: (B, L, C), or (1, L, C) for all images; returned are
                (B, L, C).
        """
        return take(tokens, self.indices)

    def unsort(self, tokens: Tensor) -> Tensor:
        """Put tokens that are in the prediction order in raster order.

        Args:
            tokens: (B, L, C), as is what is returned.
        """
        return take(tokens, self.indices.argsort(dim=1))


def take(tokens: Tensor, indices: Tensor) -> Tensor:
    """Whole tokens by their index, as rows of one table.

    (``take_along_dim`` looks up every channel for itself.)

    Args:
        tokens: (B, L, C), or (1, L, C) for all images.
        indices: int64, (B, L').

    Returns:
        (B, L', C).
    """
    batch_size, length = tokens.shape[:2]
    start = torch.arange(batch_size, device=indices.device) * length
    rows = (indices + start.unsqueeze(1)).flatten()  # of all images
    taken = tokens.flatten(0, 1).index_select(0, rows)
    return taken.unflatten(0, indices.shape)


def literal_masks(order: PredictionOrder) -> tuple[Tensor, Tensor]:
    """The paper's two masks (Eq. 3), for looking at: no model needs them.

    Rows and columns are raster indices.

    Returns:
        bool, (B, L, L). At (i, j) whether patch i
        sees patch j: as content, itself (its segment, and the prefix)
        included, and as query, excluded; the query of a patch in the
        prefix, which is not predicted, sees none. (Everything sees the
        class token.)
    """
    step = order.indices.argsort(dim=1)  # of each patch
    inside = step < torch.as_tensor(order.prefix).reshape(-1, 1).to(step)
    segment = step // order.segment_length
    row, column = segment.unsqueeze(2), segment.unsqueeze(1)
    content = (column <= row) | inside.unsqueeze(1)
    return content, (column < row) & ~inside.unsqueeze(2)
