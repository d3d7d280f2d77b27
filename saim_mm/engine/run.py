"""Running a training in a folder, and going on with what is there."""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger

from ..checkpoint.atomic import atomic_write
from ..checkpoint.sharded import REST
from ..checkpoint.zoo import DEMO, SCHEME, resolve, root
from ..utils.check import check_arg
from ..utils.lock import LOCK, locked
from .hooks.console_hook import ConsoleHook
from .resume import find_checkpoints
from .runner import SAIMRunner
from .work_dir import check_writable

#: The file that says what is trained in a folder.
CONFIG = 'config.py'
#: Those with the images of a fine-tuning.
LISTS = ('train.txt', 'val.txt')
#: That of a pre-training for a comparison, beside its folder.
IMAGES = 'images.txt'
#: Fields that no result depends on: another machine, how often it is saved and
#: logged. (`resume` stood in configs of before.)
MAY_DIFFER = re.compile(
    r'resume=|\w+_dataloader\.(num|persistent)_workers='
    r'|default_hooks\.(checkpoint\.(interval|max_keep_ckpts)|logger\.interval)='
)
#: Those by which a step of the optimiser is cut to the memory of a GPU.
PARTS = re.compile(r'\w+_dataloader\.batch_size=|.*\.accumulative_counts=')


def config_of(folder: str | Path) -> Path | None:
    """The config of a training: what ``saim``, or MMEngine, wrote there.

    Returns:
        None if there is none.

    Raises:
        ValueError: If there are several.
    """
    path = Path(folder, CONFIG)
    if path.is_file():
        return path
    # A config is a program: none but that of a training is taken for one.
    if not Path(folder, 'last_checkpoint').is_file():
        return None
    others = sorted(Path(folder).glob('*.py'))
    check_arg(
        len(others) < 2,
        'init',
        str(folder),
        'a folder with one config: this holds '
        f'{", ".join(x.name for x in others[:3])}',
    )
    return others[0] if others else None


def checkpoint_of(init: str | Path) -> str:
    """A checkpoint: a file, an address, or the last one of a training.

    Raises:
        FileNotFoundError: If there is no such file, or no checkpoint there.
    """
    path = Path(init).expanduser()
    if '://' in str(init):
        return str(init)
    if path.is_dir() and not (path / REST).is_file():
        if config_of(path) is None:
            raise FileNotFoundError(
                f'init={str(init)!r}: must be the folder of a training, with '
                f'{CONFIG} or the config of tools/train.py in it, or a '
                'checkpoint'
            )
        found = find_checkpoints(path)
        if not found:
            raise FileNotFoundError(
                f'init={str(init)!r}: holds no checkpoint yet; let its '
                'training go on first'
            )
        path = found[0]
    if not path.exists():
        raise FileNotFoundError(
            f'init={str(init)!r}: no such file or folder; give a checkpoint, '
            'or the folder of a training'
        )
    return str(path.resolve())


def config_for(init: str | Path) -> Path | None:
    """The config of the training that :func:`checkpoint_of` has one of.

    Raises:
        ValueError: If there are several, or no such weights in the package.
    """
    if str(init).startswith(SCHEME):
        name = resolve(init).stem  # or an error that names them
        found = (root() / 'configs/pretrain').rglob(f'{name}.py')
        return next(found, None)
    if '://' in str(init):
        return None
    # A training's checkpoints may be elsewhere (checkpoint.out_dir).
    folder = Path(init).expanduser()
    config = config_of(folder) if folder.is_dir() else None
    return config or config_of(Path(checkpoint_of(init)).parent)


def training_of(init: str | Path) -> tuple[Path, str]:
    """The config of a training and its last checkpoint, or a given one.

    Args:
        init: The folder of a training, a checkpoint beside its config, or
            ``saim_mm://NAME``.

    Raises:
        FileNotFoundError: If there is no such folder or checkpoint.
        ValueError: If nothing says which model the checkpoint is of.
    """
    checkpoint = checkpoint_of(init)
    config = config_for(init)
    check_arg(
        config is not None,
        'init',
        str(init),
        'the folder of a training, or a checkpoint beside the config that '
        'says which model it is of (`saim embed` takes --model instead)',
    )
    return config, checkpoint


def model_and_checkpoint(
    init: str | Path | None, model: str | None = None
) -> tuple[str | Path, str]:
    """A model and its checkpoint, as FeatureExtractor takes them.

    Args:
        init: As for :func:`training_of`. Defaults to None: what comes with
            the package.
        model: With a checkpoint of others, a name of ``list_models()``.

    Raises:
        FileNotFoundError: If there is no such folder or checkpoint.
        ValueError: If nothing says which model the checkpoint is of.
    """
    if model is None:
        return training_of(init or f'saim_mm://{DEMO}')
    check_arg(
        init is not None,
        'init',
        None,
        f'the folder of a training, or a checkpoint of model={model!r}',
    )
    return model, checkpoint_of(init)


def write_list(path: Path, lines: list[str]) -> None:
    """Write the list of a training's images, unless it is there.

    Raises:
        ValueError: If another one is there.
    """
    text = '\n'.join(lines) + '\n'
    if path.is_file():
        check_arg(
            path.read_text() == text,
            'out',
            str(path.parent),
            'another folder, or an empty one: it holds a training on other '
            f'images ({path.name})',
        )
        return
    check_arg(
        not (path.parent / CONFIG).is_file(),
        'out',
        str(path.parent),
        'another folder, or an empty one: it holds another training',
    )
    check_whose(path.parent)
    check_writable(path.parent, 'out')
    atomic_write(path, text.encode())


class QuietRunner(SAIMRunner):
    """A runner whose log goes to the log file, and errors to the screen."""

    def build_logger(self, *args, **kwargs) -> MMLogger:
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler:
                handler.setStream(sys.stderr)
                handler.setLevel(logging.ERROR)
        return logger


def run(cfg: Config) -> Path:
    """Train in ``cfg.work_dir``, or go on with what is there.

    Args:
        cfg: The config; it is written to ``config.py`` there.

    Returns:
        The last checkpoint.

    Raises:
        ValueError: If another training is there.
        KeyboardInterrupt: On Ctrl-C, when a checkpoint has been saved.
    """
    out = Path(cfg.work_dir)
    path = out / CONFIG
    check_whose(out)
    check_writable(out, 'out')
    with locked(out, 'out'):
        new = not path.is_file()
        if new:
            atomic_write(path, cfg.pretty_text.encode())
        else:
            check_same(Config.fromfile(path), cfg)
        try:
            train(cfg)
        except BaseException:  # Ctrl-C before the first step among them
            if new and not find_checkpoints(out):  # the next try may differ
                for name in (CONFIG, *LISTS, LOCK):
                    (out / name).unlink(missing_ok=True)
            raise
    return find_checkpoints(out)[0]


def check_whose(out: Path) -> None:
    """Refuse checkpoints of which nothing says what they are of.

    Raises:
        ValueError: If there are some, without a config.
    """
    check_arg(
        (out / CONFIG).is_file() or not find_checkpoints(out),
        'out',
        str(out),
        'another folder, or an empty one: it holds checkpoints of a training, '
        f'without the {CONFIG} that says which',
    )


def check_same(before: Config, cfg: Config) -> None:
    """Refuse to go on with other settings.

    Args:
        before: The config of the training that is there.

    Raises:
        ValueError: If a result depends on what differs.
    """
    same_step = images_per_step(before) == images_per_step(cfg)
    old, new = Path(before.work_dir), Path(cfg.work_dir)
    for depth, folder in enumerate(list(new.parents)[:2], 1):
        # Of a comparison the whole folder is moved.
        if (folder / IMAGES).is_file():
            if old.parts[-depth:] == new.parts[-depth:]:
                old, new = old.parents[depth - 1], folder
            break
    was = moved(before.to_dict(), str(old), str(new))
    changed = [
        field
        for field in differences(was, cfg.to_dict())
        if not MAY_DIFFER.match(field)
        and not (same_step and PARTS.match(field))
    ]
    check_arg(
        not changed,
        'out',
        str(cfg.work_dir),
        'another folder, or an empty one: it holds a training with other '
        f'settings ({", ".join(changed[:3])})',
    )


def moved(value: Any, old: str, new: str) -> Any:
    """A value of a config, with the paths of a folder that was moved."""
    if isinstance(value, Mapping):
        return {key: moved(part, old, new) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(moved(part, old, new) for part in value)
    if isinstance(value, str) and f'{value}/'.startswith(f'{old}/'):
        return new + value[len(old) :]
    return value


def images_per_step(cfg: Config) -> int:
    """Images between two steps of the optimiser."""
    counts = cfg.optim_wrapper.get('accumulative_counts', 1)
    return cfg.train_dataloader.batch_size * counts


def train(cfg: Config) -> None:
    """Train a config; Ctrl-C saves first."""
    cfg = cfg.copy()
    cfg.resume = True
    cfg.start_from = cfg.get('load_from') or cfg.get('start_from')
    cfg.load_from = None
    # MMEngine has one visualizer of a name, in one folder.
    cfg.experiment_name = Path(cfg.work_dir).name
    runner = QuietRunner.from_cfg(cfg)
    hook = ConsoleHook()
    runner.register_hook(hook)
    interrupted = False

    def save_first(*_) -> None:
        nonlocal interrupted
        # Before the first step nothing listens to the other signal yet.
        if interrupted or signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            raise KeyboardInterrupt
        interrupted = True
        os.kill(os.getpid(), signal.SIGTERM)  # saves, then leaves

    main = threading.current_thread() is threading.main_thread()
    usual = main and signal.signal(signal.SIGINT, save_first)
    try:
        runner.train()
    except SystemExit:
        if not interrupted:
            raise
    except torch.OutOfMemoryError as error:
        batch = cfg.train_dataloader.batch_size
        counts = 2 * images_per_step(cfg) // batch
        raise RuntimeError(
            f'train_dataloader.batch_size={batch}: must be smaller, for '
            f'example train_dataloader.batch_size={batch // 2} '
            f'optim_wrapper.accumulative_counts={counts} behind the command '
            f'(or a smaller model, by --arch or --size): {error}'
        ) from error
    finally:
        hook.progress.stop()
        if main:
            signal.signal(signal.SIGINT, usual)
    if interrupted:  # in the last validation, too
        raise KeyboardInterrupt


def differences(first: Any, second: Any, name: str = '') -> list[str]:
    """The fields in which two configs differ, and their values."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        keys = dict.fromkeys([*first, *second])
        return [
            field
            for key in keys
            for field in differences(
                first.get(key), second.get(key), f'{name}.{key}'.lstrip('.')
            )
        ]
    sequences = all(
        isinstance(x, Sequence) and not isinstance(x, str)
        for x in (first, second)
    )
    if sequences and len(first) == len(second):
        return [
            field
            for number, pair in enumerate(zip(first, second))
            for field in differences(*pair, f'{name}.{number}')
        ]
    return [] if first == second else [f'{name}={first!r}, now {second!r}']
