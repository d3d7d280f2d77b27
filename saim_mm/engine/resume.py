"""Where a training is, when its epochs have another length than before.

Fewer machines make smaller steps, and so more of them in an epoch. MMEngine's
checkpoints count in steps, also in schedules that are given in epochs.
"""

import contextlib
import logging
import re
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Optional, Union

from mmengine.dist import (
    broadcast_object_list,
    get_world_size,
    is_main_process,
)
from mmengine.optim import OptimWrapper, _ParamScheduler
from torch.utils.data import DataLoader

from ..utils.dist import gather_errors


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


def reset_schedules(optim_wrapper: OptimWrapper) -> None:
    """Set what schedules change back to what they begin with.

    Args:
        optim_wrapper (OptimWrapper): Its groups are changed in place.
    """
    for group in optim_wrapper.param_groups:
        for key in [key for key in group if key.startswith('initial_')]:
            group[key.removeprefix('initial_')] = group[key]


def replay_schedules(
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


#: The checkpoint that a signal made.
INTERRUPTED = 'interrupted.pth'


def find_checkpoints(work_dir: Union[str, Path]) -> list[Path]:
    """The checkpoints of a training, the newest first.

    Args:
        work_dir (str | Path): Its folder.

    Returns:
        list[Path]: First the one that the file ``last_checkpoint`` names, if
        it is there; then the others by the time that they were written. One
        that had stepped aside when the power failed counts.
    """
    folder, times = Path(work_dir), {}
    for path in folder.glob('*.pth*'):
        name = path.name.removesuffix('.old')
        if (
            name == INTERRUPTED or re.fullmatch(r'(epoch|iter)_\d+\.pth', name)
        ) and not (name != path.name and path.with_name(name).exists()):
            with contextlib.suppress(FileNotFoundError):  # gone by now
                times[path] = path.stat().st_mtime_ns
    found = sorted(times, key=times.get, reverse=True)
    pointer = folder / 'last_checkpoint'
    if pointer.is_file():
        # It may be empty, or of a folder that was moved.
        last = Path(pointer.read_text())
        names = (last.name, f'{last.name}.old')
        found.sort(key=lambda path: path.name not in names)
    return found


def load_newest(
    work_dir: Union[str, Path],
    load: Callable[[str], Any],
    logger: logging.Logger,
) -> Optional[Path]:
    """Load the newest checkpoint that is whole, the same in all processes.

    Args:
        work_dir (str | Path): Its folder, of which the main process's view
            counts.
        load (Callable): Takes a path, and raises ValueError if it is broken.
        logger (logging.Logger): Gets the names of broken ones.

    Returns:
        Path | None: Which it was; None if there was none.

    Raises:
        OSError: If some processes can load it and others cannot, or not for
            the same reason.
    """
    for path in shared_checkpoints(work_dir):
        error, errors = gather_errors(partial(load, str(path)))
        if not errors:
            return path
        kinds = {text.split(':')[0] for text in errors.values()}
        # All go on to an older one, or none does.
        if len(errors) < get_world_size() or len(kinds) > 1:
            raise OSError(
                f'{path}: processes {sorted(errors)} of {get_world_size()} '
                f'cannot load it ({"; ".join(sorted(set(errors.values())))}). '
                f'work_dir={str(work_dir)!r} must be a folder that all '
                'machines see; if it is, start again with --resume'
            ) from error
        if not isinstance(error, ValueError):
            raise error
        logger.warning(f'Not loaded: {error}')
    return None


def shared_checkpoints(work_dir: Union[str, Path]) -> list[Path]:
    """What :func:`find_checkpoints` finds in the main process, for all.

    Args:
        work_dir (str | Path): The folder.
    """
    found = [find_checkpoints(work_dir) if is_main_process() else None]
    broadcast_object_list(found)
    return found[0]
