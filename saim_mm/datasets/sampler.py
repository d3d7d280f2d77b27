"""The order of the images, and the seeds of their crops."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from itertools import count

import torch
from mmengine.dist import get_dist_info, sync_random_seed
from mmengine.registry import DATA_SAMPLERS
from torch.utils.data import Sampler


class SeededIndex(int):
    """The index of an image, with what its random crop is drawn from.

    Args:
        index (int): Index in the dataset.
        key (tuple[int, ...]): Not negative.
    """

    key: tuple[int, ...]

    def __new__(cls, index: int, key: tuple[int, ...]) -> SeededIndex:
        draw = super().__new__(cls, index)
        draw.key = key
        return draw

    def __reduce__(self) -> tuple:
        return SeededIndex, (int(self), self.key)


@DATA_SAMPLERS.register_module()
class ReproducibleSampler(Sampler):
    """Draws images so that training can go on from anywhere.

    Every pass takes each image once, in an order that depends on the seed and
    the number of the pass. It yields :class:`SeededIndex`, whose crops
    :class:`~saim_mm.UnlabelledImages` makes reproducible.

    Where training is stands in :attr:`consumed_samples`: how many images of
    this pass (of all passes, if they are ``infinite``) it has seen, in all
    processes together. Iteration begins there. Training sets it, as loading
    processes read ahead of it.

    Args:
        seed: The same in all processes. Defaults to None, MMEngine's.
        infinite: Whether to go on after a pass, for training by iterations.
            Defaults to False: a pass for each epoch, in which every process
            gets the same number of images (some twice).
    """

    def __init__(
        self,
        dataset: Sized,
        shuffle: bool = True,
        seed: int | None = None,
        infinite: bool = False,
    ) -> None:
        self.rank, self.world_size = get_dist_info()
        self.size = len(dataset)
        self.shuffle = shuffle
        self.seed = sync_random_seed() if seed is None else seed
        self.infinite = infinite
        self.epoch = 0
        self.num_samples = -(-self.size // self.world_size)
        self.consumed_samples = 0

    def __len__(self) -> int:
        """The number of images of an epoch in this process."""
        return self.num_samples

    @property
    def samples_left(self) -> int:
        """The number of images of this epoch that this process has yet to see.

        (If there were more processes before, the rest of a division comes
        again.)
        """
        return max(
            self.num_samples - self.consumed_samples // self.world_size, 0
        )

    def set_epoch(self, epoch: int) -> None:
        """Begin a pass, unless it is under way.

        Args:
            epoch: Its number, from 0.
        """
        if not self.infinite and epoch != self.epoch:
            self.epoch, self.consumed_samples = epoch, 0

    def state_dict(self) -> dict[str, int]:
        """Where training is: ``consumed_samples``, ``seed`` and ``size``."""
        return dict(
            consumed_samples=self.consumed_samples,
            seed=self.seed,
            size=self.size,
        )

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from a :meth:`state_dict`, of any number of processes."""
        self.consumed_samples = state['consumed_samples']
        self.seed = state.get('seed', self.seed)

    def _indices(self, epoch: int) -> list[int]:
        """All images in the order of a pass."""
        if not self.shuffle:
            return list(range(self.size))
        generator = torch.Generator().manual_seed(self.seed + epoch)
        return torch.randperm(self.size, generator=generator).tolist()

    def __iter__(self) -> Iterator[SeededIndex]:
        """Yield the draws of this process."""
        total = self.num_samples * self.world_size
        done = self.consumed_samples // self.world_size  # of each process
        first = self.rank + done * self.world_size
        epoch, indices = -1, []
        for number in count(first, self.world_size):
            if not self.infinite and number >= total:
                return
            # The place in all passes, of `size` images if they go on and of
            # `total` if not.
            wanted = number // self.size if self.infinite else self.epoch
            if wanted != epoch:
                epoch, indices = wanted, self._indices(wanted)
            place = number if self.infinite else self.epoch * total + number
            yield SeededIndex(indices[number % self.size], (self.seed, place))
