"""Whatever is wrong with a checkpoint is one kind of error, which names it."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from torch.distributed.checkpoint import CheckpointException


class FormatError(ValueError):
    """What is wrong within a file, which the message does not name."""


class CodeError(FormatError):
    """A file holds something else than tensors and plain data."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f'holds Python objects, which can carry code: {what:.100}'
        )


class CheckpointError(ValueError):
    """What is wrong with a checkpoint, which the message names."""


@contextlib.contextmanager
def errors_named(name: str) -> Iterator[None]:
    """While a checkpoint is read: what breaks on it names it.

    Args:
        name: What errors call it.

    Raises:
        CheckpointError: If it is damaged, or refused.
        OSError: If it cannot be read.
    """
    field = f'checkpoint={name!r}'
    try:
        yield
    except (CheckpointError, MemoryError):
        raise
    except CodeError as error:
        raise CheckpointError(
            f'{field}: not loaded, because it {error}'
        ) from error
    except FormatError as error:
        raise CheckpointError(f'{field}: {error}') from error
    except (Exception, CheckpointException) as error:
        # EINVAL: a place before the beginning of the file.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        raise CheckpointError(
            f'{field}: truncated, or not a checkpoint, or damaged '
            f'({type(error).__name__}: {str(error)[:200] or "empty"})'
        ) from error
