"""A training's folder: whether it can be written, and is there."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mmengine.fileio import LocalBackend, get_file_backend


def is_local(
    folder: str, file_client_args: dict | None, backend_args: dict | None
) -> bool:
    """Whether MMEngine writes files of this machine there."""
    if file_client_args is not None:
        return file_client_args.get('backend', 'disk') == 'disk'
    backend = get_file_backend(folder, backend_args=backend_args)
    return isinstance(backend, LocalBackend)


def check_writable(folder: str | Path, field: str) -> None:
    """Make a folder, and refuse one that files cannot be written to.

    Args:
        field: What names it in the config.

    Raises:
        OSError: Naming the field.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            file.write(bytes(2**20))  # more than a config and a log's start
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OSError(
            f'{field}={str(folder)!r}: cannot be written, so no checkpoint '
            f'could be kept ({error}); make room, or set another'
        ) from error


@contextlib.contextmanager
def explain_os_errors(work_dir: str) -> Iterator[None]:
    """While files in a folder are written: say if it is full or gone.

    Raises:
        OSError: Naming the field; or the file, if it is of another folder.
    """
    try:
        yield
    except OSError as error:
        field = f'work_dir={str(work_dir)!r}'
        if not Path(work_dir).is_dir():
            raise FileNotFoundError(
                f'{field}: is no longer there; was it removed, or its disk '
                'unmounted? Bring it back and go on with --resume, or set '
                'another --work-dir'
            ) from error
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            place, advice = Path(work_dir), ', or set another --work-dir'
            file = error.filename
            if isinstance(file, (str, bytes, os.PathLike)):  # or a number
                file = Path(os.fsdecode(file)).absolute()
                if not file.is_relative_to(place.absolute()):
                    field, advice = f'file={str(file)!r}', ''
                    place = next(p for p in file.parents if p.is_dir())
            free = shutil.disk_usage(place).free
            raise OSError(
                f'{field}: cannot be written ({error}; {free / 2**20:.0f} MiB '
                f'are left); make room and go on with --resume{advice}'
            ) from error
        raise
