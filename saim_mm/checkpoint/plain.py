"""The state of a training as plain data, there and back.

MMEngine saves logs as objects of its own classes. Here they are numbers in
tensors, so that ``torch.load`` with its defaults reads the file; and what is
read from a file is taken over by known names and types only, because MMEngine
executes some of it as a config, and removes files that some of it names.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, print_log
from torch import Tensor

#: MMEngine executes the first of these texts when it resumes, the second in
#: inferencers that are given no config.
PROGRAMS = ('config', 'cfg')

#: Texts that ``meta`` and ``message_hub.runtime_info`` may have. Numbers may
#: have any other name.
TEXTS = {
    *('experiment_name', 'time', 'mmengine_version', 'mmcv_version'),
    *('mmpretrain_version', 'mmdet_version', 'mmseg_version', 'loop_stage'),
}

#: Containers that they may have.
CONTAINERS = dict(
    dataset_meta=(dict,),
    keep_ckpt_ids=(list,),
    CLASSES=(list, tuple),
    PALETTE=(list, tuple),
)

#: Numbers in one of these; lists take more memory than tensors.
MOST = 2**20

#: Whole numbers, or nothing.
COUNTS = {'epoch', 'iter', 'max_epochs', 'max_iters', 'seed'}

HISTORY = ('log_history', 'count_history', 'max_length')


def to_plain(checkpoint: dict) -> dict:
    """Make a checkpoint one of plain data and tensors.

    Args:
        checkpoint: As MMEngine's runner makes it. Changed in place: the logs
            of ``message_hub`` become dicts of ``log_history``,
            ``count_history`` and ``max_length``; numbers and arrays of NumPy
            numbers and tensors; paths texts. What has no such form is left
            out, and the log says so.

    Returns:
        The same.
    """
    plain = {
        key: _to_plain(value, key)
        for key, value in checkpoint.items()
        if type(key) in (str, int)
    }
    checkpoint.clear()
    checkpoint.update((k, v) for k, v in plain.items() if v is not _NOTHING)
    return checkpoint


#: Stands for what is left out.
_NOTHING = object()


def _to_plain(value: Any, where: str) -> Any:
    kind = type(value)
    if kind in (str, int, float, bool, type(None)):
        return value
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, HistoryBuffer):
        logs, counts = value.data
        return dict(
            zip(
                HISTORY,
                (*map(_from_array, (logs, counts)), value.max_length),
            )
        )
    if isinstance(value, np.generic):
        return _to_plain(value.item(), where)
    if isinstance(value, np.ndarray) and value.dtype.kind in 'biuf':
        return _from_array(value)
    if isinstance(value, (bool, int, float, str)):  # subclasses of these
        base = next(t for t in (bool, int, float, str) if isinstance(value, t))
        return base(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        pairs = (
            (key, _to_plain(part, f'{where}.{key}'))
            for key, part in value.items()
            if type(key) in (str, int, float, bool, type(None))
        )
        plain = {key: part for key, part in pairs if part is not _NOTHING}
        if hasattr(value, '_metadata'):  # of a module's state_dict
            plain = OrderedDict(plain)
            setattr(plain, '_metadata', value._metadata)  # noqa: B010
        return plain
    if isinstance(value, (list, tuple, set, frozenset)):
        parts = [_to_plain(part, f'{where}[]') for part in value]
        parts = [None if part is _NOTHING else part for part in parts]
        return tuple(parts) if isinstance(value, tuple) else parts
    print_log(
        f'{where}: left out of the checkpoint, because {kind} is neither a '
        'tensor nor plain data',
        logger='current',
        level=logging.WARNING,
    )
    return _NOTHING


def _from_array(array: np.ndarray) -> Tensor:
    if array.dtype.kind in 'ui' and array.dtype.itemsize > 1:
        array = array.astype(np.int64)
    return torch.from_numpy(array.copy())


def restore_logs(checkpoint: dict) -> dict:
    """Give MMEngine back the logs that :func:`to_plain` made plain.

    Args:
        checkpoint: Changed in place.

    Returns:
        The same.
    """
    hub = checkpoint.get('message_hub') or {}
    for name, log in hub.get('log_scalars', {}).items():
        if isinstance(log, dict):
            logs, counts = (log[key].cpu().numpy() for key in HISTORY[:2])
            hub['log_scalars'][name] = HistoryBuffer(
                logs, counts, log['max_length']
            )
    return checkpoint


def rebuild_state(checkpoint: Any, folder: Path) -> Any:
    """Take over the state of a training by known names and types.

    Args:
        checkpoint: A plain tree. Changed in place, if it is a dict.
        folder: Where the checkpoint is.

    Returns:
        The same, but that ``meta`` and ``message_hub`` have numbers, and the
        known texts and containers only; that the paths of checkpoints in
        the latter are of files in ``folder``; that ``progress`` has
        numbers only; and that the text of the config, ``meta['cfg']``, stands
        under ``config_text``, where nothing executes it.
    """
    if not isinstance(checkpoint, dict):
        return checkpoint
    if 'meta' in checkpoint:
        text = dict(_items(checkpoint['meta'])).get('cfg')
        checkpoint['meta'] = _known(checkpoint['meta'], folder)
        if type(text) is str:
            checkpoint['meta']['config_text'] = text
    if 'progress' in checkpoint:
        checkpoint['progress'] = {
            name: count
            for name, count in _items(checkpoint['progress'])
            if type(count) is int and count >= 0
        }
    if 'message_hub' in checkpoint:
        hub = checkpoint['message_hub']
        hub = hub if isinstance(hub, dict) else {}
        logs = {
            name: log
            for name, log in _items(hub.get('log_scalars'))
            if _is_log(log)
        }
        info = _known(hub.get('runtime_info'), folder)
        checkpoint['message_hub'] = dict(
            log_scalars=logs,
            runtime_info=info,
            resumed_keys={
                name: resumed
                for name, resumed in _items(hub.get('resumed_keys'))
                if type(resumed) is bool and (name in logs or name in info)
            },
        )
    return checkpoint


def _items(value: Any) -> list[tuple[str, Any]]:
    if not isinstance(value, dict):
        return []
    return [(name, v) for name, v in value.items() if type(name) is str]


def _is_log(log: Any) -> bool:
    return (
        isinstance(log, dict)
        and set(log) == set(HISTORY)
        and all(isinstance(log[key], Tensor) for key in HISTORY[:2])
        and log['log_history'].ndim == log['count_history'].ndim == 1
        and len(log['log_history']) == len(log['count_history'])
        and type(log['max_length']) is int
        and log['max_length'] > 0
    )


def _known(info: Any, folder: Path) -> dict[str, Any]:
    """The entries of known names and types."""
    known = {}
    for name, value in _items(info):
        if name in PROGRAMS:
            continue
        if name in COUNTS:
            fits = value is None or (type(value) is int and value >= 0)
        elif name in CONTAINERS:
            fits = _size(value) <= MOST
            value = _lists(value) if fits else []
            fits = fits and type(value) in CONTAINERS[name]
            if name == 'keep_ckpt_ids':
                fits = fits and all(type(x) is int for x in value)
        elif name == 'last_ckpt' or name.startswith('best_ckpt'):
            # MMEngine removes the best one when there is a better one.
            value = _in_folder(value, folder, name.split('_')[0])
            fits = value is not None
        elif name in TEXTS:
            fits = type(value) is str
        else:
            fits = type(value) in (int, float, bool, type(None))
        if fits:
            known[name] = value
    return known


def _size(value: Any) -> int:
    """How many numbers the tensors in a value hold."""
    if isinstance(value, Tensor):
        return value.numel()
    if isinstance(value, dict):
        value = list(value.values())
    return sum(map(_size, value)) if isinstance(value, (list, tuple)) else 0


def _lists(value: Any) -> Any:
    """With lists in place of tensors, as MMEngine's arrays become."""
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {key: _lists(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_lists, value))
    return value


def _in_folder(path: Any, folder: Path, kind: str) -> str | None:
    """A checkpoint beside the one that names it, if it is there."""
    if type(path) is not str or not path.endswith('.pth'):
        return None
    name = path.replace('\\', '/').rsplit('/', 1)[-1]
    if kind == 'best' and not name.startswith('best_'):
        return None
    return str(folder / name) if (folder / name).exists() else None
