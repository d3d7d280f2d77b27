"""Seeding all generators at once."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch


def seed_everything(*key: int) -> None:
    """Seed Python, NumPy and PyTorch.

    Args:
        *key: Not negative; other keys give independent numbers.
    """
    torch.manual_seed(seed_cpu(key))


def seed_cpu(key: tuple[int, ...]) -> int:
    """Seed Python, NumPy and PyTorch's generator of the CPU, fast.

    Args:
        key: As for :func:`seed_everything`.

    Returns:
        What they were seeded with.
    """
    seed = int(np.random.SeedSequence(key).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    torch.random.default_generator.manual_seed(seed)
    return seed


@contextlib.contextmanager
def temp_seed(key: tuple[int, ...]) -> Iterator[None]:
    """Seed the generators of the CPU, and set them back afterwards.

    Args:
        key: As for :func:`seed_everything`.
    """
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        seed_cpu(key)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
