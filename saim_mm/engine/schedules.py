"""Schedules of a training whose epochs get another length."""

from __future__ import annotations

import warnings

from mmengine.optim import OptimWrapper, _ParamScheduler
from mmengine.runner import Runner

from .checks.config import schedulers


def replay_schedules(runner: Runner, why: str) -> None:
    """Build the schedules of a runner anew, and step them to its iteration.

    (They have no closed form: each value follows from the one before, and one
    scheduler's from another's.)

    Args:
        why: Stands in the error.

    Raises:
        RuntimeError: If they cannot be built, or depend on more than the
            iteration.
    """
    if not runner.param_schedulers:
        return
    configs, built = schedulers(runner.cfg), runner.param_schedulers
    if (
        not isinstance(built, list)
        or len(configs) != len(built)
        or any(getattr(s, 'need_val_args', False) for s in built)
    ):
        raise RuntimeError(
            f'resume: {why}, and param_scheduler cannot follow: it needs to '
            'be of one optimiser, given in the config, without '
            'ReduceOnPlateau. Resume with as many processes as before, of the '
            'same batch_size, from the end of an epoch'
        )
    reset_schedules(runner.optim_wrapper)
    runner.param_schedulers = runner.build_param_scheduler(configs)
    step_schedules(
        runner.param_schedulers,
        runner.iter,
        runner.epoch,
        len(runner.train_dataloader),
    )


def reset_schedules(optim_wrapper: OptimWrapper) -> None:
    """Set what schedules change back to what they begin with.

    Args:
        optim_wrapper: Its groups are changed in place.
    """
    for group in optim_wrapper.param_groups:
        for key in [key for key in group if key.startswith('initial_')]:
            group[key.removeprefix('initial_')] = group[key]


def step_schedules(
    schedulers: list[_ParamScheduler],
    iterations: int,
    epochs: int,
    epoch_length: int,
) -> None:
    """Make the steps of new schedulers that training would have made.

    Args:
        schedulers: Just built.
        iterations: How many were done.
        epochs: How many of the epochs are over.
        epoch_length: The iterations of an epoch.
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
