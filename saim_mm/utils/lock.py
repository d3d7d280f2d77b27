"""A folder that one process at a time works in."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from mmengine.logging import print_log

from .dist import run_or_raise_on_all

#: The file in a folder that the process at work there has locked.
LOCK = '.lock'
#: Folders that are locked, and by which process: one that is forked has none.
HELD: dict[Path, int] = {}


@contextlib.contextmanager
def locked(folder: str | Path, field: str) -> Iterator[None]:
    """Keep other runs out of a folder while this one works there.

    The main process holds a lock of the operating system, which ends with it,
    after kill -9 too: none is left behind. (A machine that lost its power
    leaves its lock to the file server for a while.)

    Args:
        field: What names the folder in a config or on the command line.

    Raises:
        RuntimeError: If another run holds the lock. (In the others of
            several processes OSError.)
    """
    place = Path(folder).resolve()
    if HELD.get(place) == os.getpid():
        yield
        return
    with contextlib.ExitStack() as stack:

        def lock() -> None:
            file = stack.enter_context(open(Path(folder, LOCK), 'a+'))
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EAGAIN):
                    print_log(
                        f'{field}={str(folder)!r}: no locks there ({error}), '
                        'so nothing keeps a second run out',
                        logger='current',
                        level=logging.WARNING,
                    )
                    return
                file.seek(0)
                raise RuntimeError(
                    f'{field}={str(folder)!r}: {file.read()} is at work '
                    'there. Wait for it, stop it, or set another. (If its '
                    f'machine is gone for good, remove {LOCK} in it.)'
                ) from None
            file.truncate(0)
            file.write(
                f'process {os.getpid()} on {socket.gethostname()}, since '
                f'{time.strftime("%Y-%m-%d %H:%M:%S")},'
            )
            file.flush()

        run_or_raise_on_all(lock, main_only=True)
        HELD[place] = os.getpid()
        try:
            yield
        finally:
            del HELD[place]
