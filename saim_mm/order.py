"""The order in which the patches of an image are predicted."""

import torch
from torch import Tensor


class PredictionOrder:
    r"""One prediction order for each image of a batch.

    A model that is causal over tokens *in this order* computes what the
    paper's content and query masks compute over tokens in raster order
    (Eq. 3): the token at step ``t`` sees the tokens at steps ``<= t`` as
    content, and the patch at step ``t`` is predicted from those at steps
    ``< t``.

    Args:
        indices (Tensor): int64, (B, L). ``indices[b, t]`` is the raster index
            of the patch of image ``b`` that is predicted at step ``t``.
    """

    #: The orders that :meth:`draw` knows.
    names = ('stochastic', 'raster')

    def __init__(self, indices: Tensor) -> None:
        self.indices = indices

    @classmethod
    def from_noise(cls, noise: Tensor) -> 'PredictionOrder':
        """Patch ``i`` precedes patch ``j`` if ``noise[i] < noise[j]``.

        Args:
            noise (Tensor): (B, L), the paper's vector z.
        """
        return cls(noise.argsort(dim=1))

    @classmethod
    def draw(
        cls, name: str, batch_size: int, num_patches: int, device: torch.device
    ) -> 'PredictionOrder':
        """Draw an order for every image of a batch.

        Args:
            name (str): ``'stochastic'``, a permutation drawn uniformly for
                each image, or ``'raster'``, row by row.
            batch_size (int): B.
            num_patches (int): L.
            device (torch.device): Where the images are.
        """
        if name == 'stochastic':
            return cls.from_noise(
                torch.rand(batch_size, num_patches, device=device)
            )
        return cls(
            torch.arange(num_patches, device=device).expand(batch_size, -1)
        )

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
            sees patch j: as content, itself included, and as query, itself
            excluded. (Everything sees the class token.)
        """
        step = self.indices.argsort(dim=1)  # of each patch
        row, column = step.unsqueeze(2), step.unsqueeze(1)
        return column <= row, column < row
