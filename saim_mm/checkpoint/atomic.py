"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from mmengine.dist import is_main_process
from torch.distributed.checkpoint import CheckpointException

#: Behind the name of what another is taking the place of.
ASIDE = '.aside'


def tmp_path(path: Path) -> Path:
    """Where a file or folder is written, until it is whole."""
    return path.with_name(path.name + '.part')


def backup_path(path: Path) -> Path:
    """Where a file or folder is, while another takes its place."""
    return path.with_name(path.name + ASIDE)


def remove(path: Path) -> None:
    """Remove a file or folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def commit(path: Path) -> None:
    """Put what was written to :func:`tmp_path` in place, if power fails too.

    Args:
        path: The place. A file or folder that is there is replaced.
    """
    part, old = tmp_path(path), backup_path(path)
    fsync(*part.iterdir() if part.is_dir() else (), part)
    # Only a file replaces a file in one step. Others step aside, where
    # `find_checkpoints` finds them if the power fails before the next line.
    aside = path.is_dir() or (part.is_dir() and path.exists())
    if aside:
        remove(old)
        path.replace(old)
    try:
        part.replace(path)
    except OSError:
        if aside:
            old.replace(path)
        raise
    fsync(path.parent)  # the new name
    remove(old)


def fsync(*paths: Path) -> None:
    """Wait until files, or the names in folders, are on the disk."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """While a checkpoint is written, by all processes.

    Args:
        path: Its place.

    Raises:
        OSError: If it was not written. What there is of it is removed.
    """
    try:
        yield
    except (OSError, RuntimeError, CheckpointException) as error:
        if is_main_process():
            with contextlib.suppress(OSError):
                remove(tmp_path(path))
        raise OSError(
            f'{path}: not written ({error}); the checkpoints before it are as '
            'they were'
        ) from error


def atomic_write(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all.

    Args:
        content: Its content.

    Raises:
        IsADirectoryError: If a folder is there.
    """
    check_no_folder(path)
    tmp_path(path).write_bytes(content)
    commit(path)


def check_no_folder(path: Path) -> None:
    """Refuse to put a file in the place of a folder of the user's.

    Raises:
        IsADirectoryError: If there is one.
    """
    if path.is_dir():
        raise IsADirectoryError(
            f'{path}: is a folder; give the name of a file, for example '
            f'{path / "NAME"}'
        )


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        for chunk in iter(partial(file.read, 2**20), b''):
            digest.update(chunk)
    return digest.hexdigest()
