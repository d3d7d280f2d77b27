"""Randomness that depends on where training is, and on nothing before it.

Crops are drawn from (seed, how many images were drawn before), everything in a
training step from (seed, iteration). So a training that was killed continues
as if it had not been, without any state of random generators in checkpoints;
and neither the number of loading processes nor that of GPUs changes a crop or
an order.
"""

import contextlib
import random
from collections.abc import Iterator, Sized
from itertools import count
from typing import Optional

import numpy as np
import torch
from mmengine.dist import get_dist_info, sync_random_seed
from mmengine.hooks import Hook
from mmengine.registry import DATA_SAMPLERS, HOOKS
from torch.utils.data import Sampler

from .algorithm import SAIM
from .runner import unwrap


class Draw(int):
    """The index of an image, with what its random crop is drawn from.

    Args:
        index (int): Index in the dataset.
        key (tuple[int, ...]): Not negative.
    """

    key: tuple[int, ...]

    def __new__(cls, index: int, key: tuple[int, ...]) -> 'Draw':
        draw = super().__new__(cls, index)
        draw.key = key
        return draw

    def __reduce__(self) -> tuple:
        return Draw, (int(self), self.key)


def seed_all(*key: int) -> None:
    """Seed Python, NumPy and PyTorch.

    Args:
        *key (int): Not negative; other keys give independent numbers.
    """
    torch.manual_seed(seed_cpu(key))


def seed_cpu(key: tuple[int, ...]) -> int:
    """Seed Python, NumPy and PyTorch's generator of the CPU, fast.

    Args:
        key (tuple[int, ...]): As for :func:`seed_all`.

    Returns:
        int: What they were seeded with.
    """
    seed = int(np.random.SeedSequence(key).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    torch.random.default_generator.manual_seed(seed)
    return seed


@contextlib.contextmanager
def seeded(key: tuple[int, ...]) -> Iterator[None]:
    """Seed the generators of the CPU, and set them back afterwards.

    Args:
        key (tuple[int, ...]): As for :func:`seed_all`.
    """
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        seed_cpu(key)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


@DATA_SAMPLERS.register_module()
class ReproducibleSampler(Sampler):
    """Draws images so that training can go on from anywhere.

    Every pass takes each image once, in an order that depends on the seed and
    the number of the pass. What it yields are :class:`Draw`, whose crops
    :class:`~saim_mm.UnlabelledImages` makes reproducible.

    Args:
        dataset (Sized): The dataset.
        shuffle (bool): Defaults to True.
        seed (int, optional): The same in all processes. Defaults to None,
            MMEngine's.
        infinite (bool): Whether to go on after a pass, for training by
            iterations. Defaults to False: a pass for each epoch, in which
            every process gets the same number of images (some twice).
    """

    def __init__(
        self,
        dataset: Sized,
        shuffle: bool = True,
        seed: Optional[int] = None,
        infinite: bool = False,
    ) -> None:
        self.rank, self.world_size = get_dist_info()
        self.size = len(dataset)
        self.shuffle = shuffle
        self.seed = sync_random_seed() if seed is None else seed
        self.infinite = infinite
        self.epoch = 0
        self.num_samples = -(-self.size // self.world_size)
        self.skipped = 0

    def __len__(self) -> int:
        """The number of images of an epoch in this process."""
        return self.num_samples

    def set_epoch(self, epoch: int) -> None:
        """Choose the pass.

        Args:
            epoch (int): Its number, from 0.
        """
        if not self.infinite:
            self.epoch = epoch

    def skip(self, num_samples: int) -> None:
        """Leave out what has been trained already.

        Args:
            num_samples (int): How many images of this process the next
                iteration over this sampler leaves out.
        """
        self.skipped = num_samples

    def _indices(self, epoch: int) -> list[int]:
        """All images in the order of a pass."""
        if not self.shuffle:
            return list(range(self.size))
        generator = torch.Generator().manual_seed(self.seed + epoch)
        return torch.randperm(self.size, generator=generator).tolist()

    def __iter__(self) -> Iterator[Draw]:
        """Yield the draws of this process."""
        total = self.num_samples * self.world_size
        first = self.rank + self.skipped * self.world_size
        self.skipped = 0
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
            yield Draw(indices[number % self.size], (self.seed, place))


@HOOKS.register_module()
class StepSeedHook(Hook):
    """Seeds every training step by the seed and the iteration.

    Processes get seeds of their own; in pre-training the same, because
    :meth:`~saim_mm.SAIM.draw_order` draws for the images of all of them.
    """

    priority = 'VERY_HIGH'

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        """Seed Python, NumPy and PyTorch.

        Args:
            runner (Runner): The runner.
            batch_idx (int): Not used.
            data_batch (dict, optional): Not used.
        """
        rank = 0 if isinstance(unwrap(runner.model), SAIM) else runner.rank
        # The 1 keeps it from the keys of draws, which zeros fill up.
        seed_all(runner.seed, runner.iter, rank, 1)
