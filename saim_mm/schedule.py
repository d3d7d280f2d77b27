"""Where a training is, when its epochs have another length than before.

Fewer machines make smaller steps, and so more of them in an epoch. MMEngine's
checkpoints count in steps, also in schedules that are given in epochs.
"""

import warnings

from mmengine.optim import OptimWrapper, _ParamScheduler
from torch.utils.data import DataLoader


def batch_size_of(loader: DataLoader) -> int:
    """The images of a batch of one process.

    Args:
        loader (DataLoader): It has no ``batch_size`` if it was given a
            ``batch_sampler``.
    """
    return loader.batch_size or loader.batch_sampler.batch_size


def batches_left(loader: DataLoader, done: int) -> int:
    """How many batches an epoch has, of which some images are left out.

    Args:
        loader (DataLoader): The loader.
        done (int): How many images of this process are left out.
    """
    if not done:
        return len(loader)
    images = max(len(loader.sampler) - done, 0)
    whole, rest = divmod(images, batch_size_of(loader))
    return whole + (rest > 0 and not loader.drop_last)


def to_the_beginning(optim_wrapper: OptimWrapper) -> None:
    """Set what schedules change back to what they begin with.

    Args:
        optim_wrapper (OptimWrapper): Its groups are changed in place.
    """
    for group in optim_wrapper.param_groups:
        for key in [key for key in group if key.startswith('initial_')]:
            group[key.removeprefix('initial_')] = group[key]


def replay(
    schedulers: list[_ParamScheduler],
    iterations: int,
    epochs: int,
    epoch_length: int,
) -> None:
    """Make the steps of new schedulers that training would have made.

    (They have no closed form: each value follows from the one before, and one
    scheduler's from another's.)

    Args:
        schedulers (list[_ParamScheduler]): Just built.
        iterations (int): How many were done.
        epochs (int): How many of the epochs are over.
        epoch_length (int): The iterations of an epoch.
    """
    with warnings.catch_warnings():
        # The optimiser makes no step in between.
        warnings.filterwarnings('ignore', 'Detected call of')
        for iteration in range(1, iterations + 1):
            for scheduler in schedulers:
                if not scheduler.by_epoch:
                    scheduler.step()
            if iteration % epoch_length or iteration > epochs * epoch_length:
                continue
            for scheduler in schedulers:
                if scheduler.by_epoch:
                    scheduler.step()
