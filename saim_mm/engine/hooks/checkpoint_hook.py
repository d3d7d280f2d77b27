"""SafeCheckpointHook: nothing that happens in weeks of training loses much."""

from __future__ import annotations

import shutil
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce, is_main_process
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ...checkpoint.atomic import ASIDE, atomic_write
from ...utils.check import check_arg, check_positive_int
from ...utils.dist import run_or_raise_on_all, unwrap_model
from ..fsdp import is_sharded
from ..resume import INTERRUPTED, POINTER
from ..work_dir import check_writable

#: Exit status after SIGTERM, as shells have it: 128 + 15.
TERMINATED = 143


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """MMEngine's ``CheckpointHook``, for what happens in weeks.

    It writes the new checkpoint, then the pointer to it, then removes the
    oldest, so there is always one that is whole. (:class:`SAIMRunner` writes
    them beside their place and renames them.) On SIGTERM or SIGUSR1, which
    clusters send before they stop a job, it saves ``interrupted.pth`` after
    the current iteration and leaves with status 143; ``--resume`` goes on from
    there. Before training it looks whether the folder can be written, and
    whether the disk has room.

    Args:
        keep_every: Checkpoints of multiples of this many epochs (iterations)
            are never removed.
        **kwargs: As for MMEngine's ``CheckpointHook``; ``max_keep_ckpts`` is
            how many of the last are kept.

    Raises:
        ValueError: If ``keep_every`` is not positive.
        OSError: Before training, if the folder cannot be written or the disk
            has no room for one checkpoint.
    """

    def __init__(self, *args, keep_every: int | None = None, **kwargs):
        if keep_every is not None:
            check_positive_int(
                'default_hooks.checkpoint.keep_every', keep_every
            )
        super().__init__(*args, **kwargs)
        self.keep_every = keep_every
        self.signal: int | None = None
        self.handlers: dict[int, Any] = {}

    def before_train(self, runner: Runner) -> None:
        """Look at the disk, and listen for signals."""
        ids = runner.message_hub.runtime_info.get('keep_ckpt_ids')
        if ids and self.keep_every:
            # MMEngine's removes what is too many.
            ids = [step for step in ids if step % self.keep_every]
            runner.message_hub.update_info('keep_ckpt_ids', ids)
        super().before_train(runner)
        if isinstance(self.file_backend, LocalBackend):
            run_or_raise_on_all(lambda: self._check_disk(runner), True)
        else:
            check_arg(
                not is_sharded(runner.model),
                'default_hooks.checkpoint.out_dir',
                self.out_dir,
                'a folder of this machine with fsdp=True',
            )
        self.signal = None
        if threading.current_thread() is threading.main_thread():
            self.handlers = {
                number: signal.signal(number, self.handle_signal)
                for number in (signal.SIGTERM, signal.SIGUSR1)
            }

    def after_train(self, runner: Runner) -> None:
        """Listen no more."""
        self.restore_signals()
        super().after_train(runner)

    def restore_signals(self) -> None:
        """Give signals back to what handled them before."""
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        self.handlers = {}

    def handle_signal(self, number: int, _: Any) -> None:
        self.signal = number

    def _check_disk(self, runner: Runner) -> None:
        """Refuse a folder that checkpoints cannot be written to."""
        here = self.out_dir == runner.work_dir
        name = 'work_dir' if here else 'default_hooks.checkpoint.out_dir'
        check_writable(self.out_dir, name)
        field = f'{name}={str(self.out_dir)!r}'
        # Weights, and AdamW's two averages of those that are trained.
        size = sum(
            p.numel() * p.element_size() * (3 if p.requires_grad else 1)
            for p in unwrap_model(runner.model).parameters()
        )
        free = shutil.disk_usage(self.out_dir).free
        number = max(self.max_keep_ckpts, 0) + 1
        message = (
            f'{field}: the disk has {free / 2**30:.2f} GiB left, and a '
            f'checkpoint takes {size / 2**30:.2f}'
        )
        if free < size:
            raise OSError(f'{message}; free some, or set another')
        if free < number * size:
            runner.logger.warning(
                f'{message}, of which {number} are on it at a time'
            )

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Save, and leave if a signal came."""
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        came = self.signal is not None
        if runner.world_size > 1:
            # All have to agree, and asking in every iteration would cost.
            if (runner.iter + 1) % 10:
                return
            flag = torch.tensor(float(came))
            all_reduce(flag, op='max')
            came = bool(flag)
        if came:
            self.save_and_exit(runner)

    def save_and_exit(self, runner: Runner) -> None:
        done = runner.iter + 1
        meta = dict(epoch=runner.epoch, iter=done)
        self._save(runner, INTERRUPTED, meta=meta, by_epoch=False)
        runner.logger.warning(
            f'Received signal {self.signal or "in another process"}: saved '
            f'{self.out_dir}/{INTERRUPTED} after iteration {done}; --resume '
            'goes on from there'
        )
        raise SystemExit(TERMINATED)

    def _save(self, runner: Runner, filename: str, **kwargs) -> None:
        """Save a checkpoint, then write MMEngine's pointer to it, whole."""
        # It is part of what is saved.
        self.last_ckpt = self.file_backend.join_path(self.out_dir, filename)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir, filename, backend_args=self.backend_args, **kwargs
        )
        if is_main_process():
            atomic_write(
                Path(runner.work_dir, POINTER),
                self.last_ckpt.encode(),
            )

    def _save_checkpoint_with_step(
        self, runner: Runner, step: int, meta: dict
    ) -> None:
        """MMEngine's, which removes the oldest before it writes the new."""
        outdated = None
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            ids = self.keep_ckpt_ids
            if len(ids) == self.max_keep_ckpts:
                outdated = ids.popleft()
            ids.append(step)
            runner.message_hub.update_info('keep_ckpt_ids', list(ids))
        self._save(
            runner,
            self.filename_tmpl.format(step),
            file_client_args=self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            **self.args,
        )
        if not is_main_process():
            return
        if outdated and (not self.keep_every or outdated % self.keep_every):
            self._remove(self.filename_tmpl.format(outdated))
        self._remove(INTERRUPTED)

    def _save_best_checkpoint(
        self, runner: Runner, metrics: dict[str, float]
    ) -> None:
        """MMEngine's, which removes the best before it writes the better."""
        before = self._best()
        self._set_best(dict.fromkeys(before))
        try:
            super()._save_best_checkpoint(runner, metrics)
        except BaseException:
            self._set_best(before)
            raise
        now = self._best()
        self._set_best({name: now[name] or before[name] for name in now})
        if is_main_process():
            for name, path in before.items():
                if path and now[name] not in (None, path):
                    self._remove(Path(path).name)

    def _best(self) -> dict[str, str | None]:
        """Measure -> the best checkpoint by it; '' if there is one measure."""
        if not self.save_best:
            return {}
        if len(self.key_indicators) == 1:
            return {'': self.best_ckpt_path}
        return dict(self.best_ckpt_path_dict)

    def _set_best(self, paths: dict[str, str | None]) -> None:
        if self.save_best and len(self.key_indicators) == 1:
            (self.best_ckpt_path,) = paths.values()
        elif self.save_best:
            self.best_ckpt_path_dict = paths

    def _remove(self, filename: str) -> None:
        path = self.file_backend.join_path(self.out_dir, filename)
        # What a power failure left first, as it counts without the other.
        for name in (f'{path}{ASIDE}', path):
            if self.file_backend.isfile(name):
                self.file_backend.remove(name)
            elif self.file_backend.isdir(name):  # of fsdp
                self.file_backend.rmtree(name)


@contextmanager
def signals_given_back(hooks: Sequence[Hook]) -> Iterator[None]:
    """Whatever ends a training: its hooks handle no signal afterwards."""
    try:
        yield
    finally:
        for hook in hooks:
            if isinstance(hook, SafeCheckpointHook):
                hook.restore_signals()
