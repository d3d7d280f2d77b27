"""Which checkpoint --resume goes on from."""

from __future__ import annotations

import contextlib
import logging
import re
import string
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.dist import broadcast_object_list, get_world_size
from mmengine.fileio import join_path
from mmengine.hooks import CheckpointHook
from mmengine.runner import CheckpointLoader, Runner

from ..checkpoint.atomic import ASIDE, backup_path
from ..utils.dist import gather_errors, run_or_raise_on_all

#: The checkpoint that a signal made.
INTERRUPTED = 'interrupted.pth'
#: The file in a work_dir that names the last checkpoint, as MMEngine has it.
POINTER = 'last_checkpoint'
#: What MMEngine calls checkpoints unless it is told.
TEMPLATES = ('epoch_{}.pth', 'iter_{}.pth')


def newest_checkpoint(runner: Runner) -> str | None:
    """The newest checkpoint of a runner's training that is whole.

    Returns:
        Its path, the same in all processes; None if none was ever
        written.

    Raises:
        ValueError: If there are some, and none is whole.
        FileNotFoundError: If there are none, though one was written.
        OSError: If some processes can read it and others cannot.
    """
    folder, template = checkpoint_place(runner)
    return newest_whole(
        runner.work_dir, check_resumable, runner.logger, folder, template
    )


def checkpoint_place(runner: Runner) -> tuple[str, str]:
    """The folder and the template of names of a runner's checkpoints."""
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook):
            folder = hook.out_dir or runner.work_dir
            # MMEngine appends this when training begins.
            if folder != runner.work_dir and not hasattr(hook, 'file_backend'):
                folder = join_path(
                    folder,
                    Path(runner.work_dir).name,
                    backend_args=hook.backend_args,
                )
            return str(folder), hook.filename_tmpl
    return runner.work_dir, TEMPLATES[0]


def find_checkpoints(
    work_dir: str | Path,
    folder: str | Path | None = None,
    template: str = TEMPLATES[0],
) -> list[Path]:
    """The checkpoints of a training, the newest first.

    Args:
        work_dir: Its folder.
        folder: That of its checkpoints. Defaults to None, the same.
        template: Of their names, beside MMEngine's.

    Returns:
        First the one that the file ``last_checkpoint`` names, if it is in
        the one or the other, or where that says, unless there is another
        training; then the others by the time that they were written. One
        that had stepped aside when the power failed counts.
    """
    folder, times = Path(folder or work_dir), {}
    names = '|'.join(map(_pattern, (template, *TEMPLATES, INTERRUPTED)))
    for path in folder.iterdir() if folder.is_dir() else ():
        name = path.name.removesuffix(ASIDE)
        if re.fullmatch(names, name) and not (
            name != path.name and path.with_name(name).exists()
        ):
            with contextlib.suppress(FileNotFoundError):  # gone by now
                times[path] = path.stat().st_mtime_ns
    found = sorted(times, key=times.get, reverse=True)
    last = Path(read_pointer(work_dir))
    places = [folder / last.name, Path(work_dir, last.name)]
    # It names a whole path: that of another training, in a copy of a folder.
    if not (last.parent / POINTER).is_file():
        places.append(last)
    for place in places:
        for path in (place, backup_path(place)) if last.name else ():
            if path.exists():
                others = [p for p in found if p.resolve() != path.resolve()]
                return [path, *others]
    return found


def read_pointer(work_dir: str | Path) -> str:
    """What ``last_checkpoint`` names; '' if there is none, or it is empty."""
    path = Path(work_dir, POINTER)
    return (
        path.read_text(errors='replace').strip('\0 \n')
        if path.is_file()
        else ''
    )


def _pattern(template: str) -> str:
    """A regular expression for the names that a template makes of numbers."""
    return ''.join(
        re.escape(text) + (r' *\d+' if field is not None else '')
        for text, field, *_ in string.Formatter().parse(template)
    )


def newest_whole(
    work_dir: str | Path,
    read: Callable[[str], Any],
    logger: logging.Logger,
    folder: str | Path | None = None,
    template: str = TEMPLATES[0],
) -> str | None:
    """The newest checkpoint that every process can read.

    Args:
        work_dir: Its folder, of which the main process's view counts.
        read: Takes a path, and raises an error if it is broken.
        logger: Gets the names of broken ones, and why.
        folder: As for :func:`find_checkpoints`.
        template: As for :func:`find_checkpoints`.

    Returns:
        str | None: As for :func:`newest_checkpoint`, with its errors.
    """
    shared = [None, None]

    def look() -> None:
        shared[0] = list(
            map(str, find_checkpoints(work_dir, folder, template))
        )
        shared[1] = read_pointer(work_dir)
        if '://' in shared[1]:
            shared[0].insert(0, shared[1])

    run_or_raise_on_all(look, main_only=True)
    broadcast_object_list(shared)
    found, pointer = shared
    field = f'work_dir={str(work_dir)!r}'
    for path in found:
        error, errors = gather_errors(partial(read, path))
        if not errors:
            return path
        kinds = {text.split(':')[0] for text in errors.values()}
        # All go on to an older one, or none does.
        if len(errors) < get_world_size() or len(kinds) > 1:
            raise OSError(
                f'{path}: processes {sorted(errors)} of {get_world_size()} '
                f'cannot load it ({"; ".join(sorted(set(errors.values())))}). '
                f'{field} must be a folder that all machines see; if it is, '
                'start again with --resume'
            ) from error
        logger.warning(f'Passed over {path}: {error}')
    if found:
        raise ValueError(
            f'{field}: none of its {len(found)} checkpoints can be read (see '
            'above); to start at the beginning, leave out --resume or set '
            'another --work-dir'
        ) from error
    if pointer:
        raise FileNotFoundError(
            f'{field}: its {POINTER} names {pointer!r}, which is gone, or '
            'of another training, and '
            f'there is no other checkpoint in {str(folder or work_dir)!r}; '
            f'put it back, or remove {POINTER} to start at the beginning'
        )
    return None


def check_resumable(path: str) -> None:
    """Refuse a checkpoint from which no training can go on.

    Args:
        path: As for MMEngine's ``load_checkpoint``.

    Raises:
        ValueError: If it is broken, or holds weights alone.
        OSError: If it cannot be read.
    """
    checkpoint = CheckpointLoader.load_checkpoint(path, map_location='cpu')
    meta = checkpoint.get('meta') if isinstance(checkpoint, dict) else None
    for holder, keys in (
        (meta, ('epoch', 'iter')),
        (checkpoint, ('state_dict', 'message_hub')),
    ):
        for key in keys:
            if not isinstance(holder, dict) or key not in holder:
                raise ValueError(
                    f'checkpoint={path!r}: has no {key!r}, so no training can '
                    'go on from it'
                )


@contextlib.contextmanager
def explain_mismatch(filename: str) -> Iterator[None]:
    """Say what a checkpoint that does not fit a training is not of.

    Raises:
        ValueError: For what PyTorch and MMEngine raise then.
    """
    try:
        yield
    except (RuntimeError, ValueError) as error:
        checkpoint, text = f'checkpoint={str(filename)!r}', str(error)
        if 'do not match' in text:
            raise ValueError(
                f'{checkpoint}: not of this model ({text}). Go on with the '
                'config that it was trained with, or begin a training with '
                'its weights: load_from, without --resume'
            ) from error
        if text.startswith('loaded state dict'):
            raise ValueError(
                f'{checkpoint}: optim_wrapper must be that which it was '
                f'trained with ({text})'
            ) from error
        raise
