"""Pickles of which nothing is executed."""

import argparse
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Optional

import numpy as np
import torch
from mmengine.logging import HistoryBuffer


def _attribute(owner: Any, name: str) -> Any:
    """Stands for ``getattr``, which a pickle could reach anything through.

    Args:
        owner: ``HistoryBuffer``, whose statistics MMEngine saves by name.
        name (str): Of one of them.

    Raises:
        UnpicklingError: If it is something else.
    """
    if owner is not HistoryBuffer or name not in STATISTICS:
        raise UnpicklingError(f'getattr of {name!r}, which could run code')
    return getattr(owner, name)


# The name by which PyTorch finds it.
_attribute.__module__, _attribute.__name__ = 'builtins', 'getattr'
_attribute.__qualname__ = 'getattr'


def _allowed() -> list:
    """What may stand in a checkpoint beside tensors and plain data.

    MMEngine saves the logged numbers as ``HistoryBuffer``, and MAE's code, on
    which the authors' is built, its command line.
    """
    dtypes = (np.float64, np.float32, np.int64, np.int32, np.uint32)
    # How numpy pickles an array and a scalar; private names that moved in 2.0.
    reconstruct = np.zeros(0).__reduce__()[0]
    scalar = np.float64(0).__reduce__()[0]
    return [
        argparse.Namespace,
        HistoryBuffer,
        _attribute,
        np.ndarray,
        np.dtype,
        reconstruct,
        scalar,
        *(type(np.dtype(t)) for t in dtypes),
    ]


#: What MMEngine's logs are averaged by.
STATISTICS = ('min', 'max', 'mean', 'current')


def load_pickle(
    path: Path, map_location: Any = None, name: Optional[str] = None
) -> Any:
    """Load a PyTorch checkpoint; nothing in it is executed.

    Args:
        path (Path): The file.
        map_location: As for :func:`torch.load`. Defaults to None.
        name (str, optional): What errors call it. Defaults to None, the path.

    Returns:
        What was saved.

    Raises:
        ValueError: If it is broken, or holds more than weights and plain data.
    """
    field = f'checkpoint={name or str(path)!r}'
    if hasattr(torch.serialization, 'add_safe_globals'):  # PyTorch >= 2.4
        torch.serialization.add_safe_globals(_allowed())
    try:
        checkpoint = torch.load(
            path, map_location=map_location, weights_only=True
        )
    except UnpicklingError as error:
        raise ValueError(
            f'{field}: not loaded, because it is no checkpoint or holds '
            'Python objects, which can carry code. (PyTorch: '
            f'{str(error).splitlines()[0]})'
        ) from error
    except (RuntimeError, EOFError) as error:
        raise ValueError(
            f'{field}: truncated, or not a checkpoint '
            f'({str(error).splitlines()[0] if str(error) else "empty"})'
        ) from error
    meta = checkpoint.get('meta') if isinstance(checkpoint, dict) else None
    if isinstance(meta, dict):
        # MMEngine would run this text, a config of the time before 2.0.
        meta.pop('config', None)
    return checkpoint
