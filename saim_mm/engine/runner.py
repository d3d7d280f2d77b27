"""SAIMRunner: MMEngine's Runner, with a look at the machine first."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import OptimWrapper
from mmengine.registry import RUNNERS
from mmengine.runner import BaseLoop, Runner
from torch import nn
from torch.utils.data import DataLoader

from ..checkpoint.atomic import commit, remove, tmp_path, writing
from ..checkpoint.heads import check_heads
from ..checkpoint.sharded import REST, write_tensors
from ..datasets.workers import (
    ended_with_loop,
    explain_dead_processes,
    leave_signals_to_parent,
)
from ..models.attention import attend_plainly_in_mmpretrain
from ..models.layers import compile_blocks
from ..models.saim import SAIM
from ..utils.dist import end_with_parent, run_or_raise_on_all, unwrap_model
from ..utils.lock import locked
from .checks.config import check_config
from .checks.dataset import check_data
from .checks.device import check_machine, check_precision
from .fsdp import check_fsdp, is_sharded, shard
from .hooks import (  # noqa: F401
    class_order_hook,
    config_hook,
    plain_state_hook,
    progress_hook,
    sharded_hook,
    unreadable_files_hook,
)
from .hooks.checkpoint_hook import signals_given_back
from .hooks.deferred_info_hook import read_losses
from .hooks.non_finite_hook import NonFiniteHook
from .resume import check_resumable, explain_mismatch, newest_checkpoint
from .work_dir import check_writable, explain_os_errors, is_local

#: The hooks of every training, beside MMEngine's and those of the config.
OWN_HOOKS = dict(
    class_order=dict(type='ClassOrderHook'),
    config=dict(type='ConfigHook'),
    runtime_info=dict(type='DeferredInfoHook'),
    plain_state=dict(type='PlainStateHook'),
    progress=dict(type='ProgressHook'),
    sharded=dict(type='ShardedHook'),
    unreadable_files=dict(type='UnreadableFilesHook'),
)


def catch_up(runner: Runner) -> None:
    """Let hooks that are an iteration behind look at the last one."""
    read_losses(runner)
    for hook in runner.hooks:
        if isinstance(hook, NonFiniteHook):
            hook.catch_up(runner)


def begun(cfg: Config) -> Config:
    """A config whose ``start_from``, if nothing is resumed, is loaded."""
    goes_on = cfg.get('resume') or cfg.get('load_from')
    if cfg.get('start_from') and not goes_on:
        cfg = copy.deepcopy(cfg)
        cfg['load_from'] = cfg['start_from']
    return cfg


def expect_weights(runner: Runner) -> None:
    """Before a test: refuse a ``load_from`` without all of the weights."""
    if runner._load_from and not runner._has_loaded:
        runner._resume = False  # as the config of a training may say
        check_heads(runner.cfg, runner._load_from, unwrap_model(runner.model))


@RUNNERS.register_module()
class SAIMRunner(Runner):
    """MMEngine's Runner for configs with ``runner_type = 'SAIMRunner'``.

    Before anything is built it refuses what this machine cannot do (mixed
    precision or GPUs that are not there), and lets several processes train on
    CPUs, which MMEngine's launcher does not. One training at a time has a
    ``work_dir``; its checkpoints are written whole or not at all, and
    ``--resume`` goes on from the newest that is whole. ``compile = True`` (or
    a dict of ``torch.compile``'s arguments) compiles the blocks of SAIM, and
    with them their backward passes. ``fsdp = True`` shares weights, gradients
    and the optimiser out among the processes of pre-training.
    """

    @classmethod
    def from_cfg(cls, cfg: Config) -> SAIMRunner:
        """Build a runner from a config.

        Raises:
            ValueError: If a number in the config cannot be, or it asks for
                what this machine has not.
            OSError: If ``work_dir`` cannot be written.
        """
        check_config(cfg := begun(cfg))
        check_fsdp(cfg)
        if 'TORCHELASTIC_RUN_ID' in os.environ:
            # Or it would train on, beside what is started after torchrun.
            end_with_parent()
        check_machine(cfg)
        check_writable(cfg['work_dir'], 'work_dir')
        with explain_os_errors(cfg['work_dir']):
            return super().from_cfg(cfg)

    def register_default_hooks(
        self, hooks: dict[str, Hook | dict] | None = None
    ) -> None:
        """Register MMEngine's hooks, those of this runner and the config's."""
        own = copy.deepcopy(OWN_HOOKS)  # MMEngine changes them
        super().register_default_hooks({**own, **(hooks or {})})

    def wrap_model(
        self, model_wrapper_cfg: dict | None, model: nn.Module
    ) -> nn.Module:
        """Wrap the model for distributed training.

        On CPUs SyncBN, which has no form for them, becomes BatchNorm, and
        mmpretrain's attention is computed as this package's. With ``fsdp`` the
        model is returned itself, shared out.
        """
        if self.cfg.get('fsdp') and self.distributed:
            self.model = model.to(get_device())
            # MMEngine does so later, when no process has the whole.
            super()._init_model_weights()
            return shard(self.model)
        if get_device() == 'cpu':
            model = revert_sync_batchnorm(model)
            attend_plainly_in_mmpretrain(model)
        return super().wrap_model(model_wrapper_cfg, model)

    def _init_model_weights(self) -> None:
        if not is_sharded(self.model):
            super()._init_model_weights()

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict, *args, **kwargs
    ) -> DataLoader:
        """Build a dataloader; its processes leave signals to this one."""
        if isinstance(dataloader, dict) and torch.cuda.is_available():
            # Unless the config says otherwise.
            dataloader = {'pin_memory': True, **dataloader}
        loader = Runner.build_dataloader(dataloader, *args, **kwargs)
        return leave_signals_to_parent(loader)

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the training loop.

        Raises:
            ValueError: If its dataset or sampler does not fit, or the model.
            FileNotFoundError: If its list names files that are not there.
        """
        loop = super().build_train_loop(loop)
        check_data(loop, unwrap_model(self.model))
        return loop

    def train(self) -> nn.Module:
        """Train, if no other training has the ``work_dir``.

        Raises:
            ValueError: If the optimiser asks for a precision that the machine
                has not; or as :meth:`build_train_loop`.
            RuntimeError: If another training has the ``work_dir``, or a
                loading process died.
            OSError: If files cannot be written or read.
        """
        if isinstance(self.optim_wrapper, dict):
            check_precision(self.optim_wrapper.get('type'))
        if get_device() == 'cpu':
            self.logger.info('no GPU found: training on the CPU')
        with (
            explain_dead_processes(lambda: self.train_dataloader.dataset),
            explain_os_errors(self.work_dir),
            locked(self.work_dir, 'work_dir'),
            ended_with_loop(self),
            signals_given_back(self.hooks),
        ):
            return super().train()

    def dump_config(self) -> None:
        """Leave it to :class:`ConfigHook`, when training begins."""

    def val(self) -> dict[str, float]:
        expect_weights(self)
        with explain_dead_processes(), ended_with_loop(self):
            return super().val()

    def test(self) -> dict[str, float]:
        expect_weights(self)
        with explain_dead_processes(), ended_with_loop(self):
            return super().test()

    def save_checkpoint(
        self,
        out_dir: str,
        filename: str,
        file_client_args: dict | None = None,
        *args,
        backend_args: dict | None = None,
        **kwargs,
    ) -> None:
        """Save a checkpoint, whole or not at all.

        MMEngine writes into the final file, so that a process that is killed
        while it writes leaves a broken one. With ``fsdp`` it is a folder, into
        which each process writes its part. (Where no files are, as in
        ``s3://…``, MMEngine writes.)

        Raises:
            OSError: In all processes, if it cannot be written; what was there
                is as before.
        """
        catch_up(self)
        kwargs.update(backend_args=backend_args)
        args = (file_client_args, *args)
        save = super().save_checkpoint
        if not is_local(out_dir, file_client_args, backend_args):
            run_or_raise_on_all(
                lambda: save(out_dir, filename, *args, **kwargs),
                main_only=True,
            )
            return
        path = Path(out_dir, filename)
        part = tmp_path(path)

        def write() -> None:
            if is_sharded(self.model):
                save(str(part), REST, *args, **kwargs)
            else:
                remove(part)  # of a killed training with fsdp
                save(out_dir, part.name, *args, **kwargs)
            commit(path)

        with writing(path):
            if is_sharded(self.model):
                write_tensors(
                    dict(
                        state_dict=self.model.state_dict(),
                        optimizer=self.optim_wrapper.state_dict(),
                    ),
                    part,
                )
            run_or_raise_on_all(write, main_only=True)

    def load_or_resume(self) -> None:
        """Load or resume, from the newest checkpoint that is whole.

        Raises:
            ValueError: If there are checkpoints, and none is whole.
            FileNotFoundError: If there are none, though one was written.
            OSError: If some processes can load it and others cannot.
        """
        if self._has_loaded or not self._resume or self._load_from is not None:
            if self._resume and not self._has_loaded:
                run_or_raise_on_all(lambda: check_resumable(self._load_from))
            super().load_or_resume()
            return
        path = newest_checkpoint(self)
        if path is None:
            self.logger.info(
                f'No checkpoint in {self.work_dir} to resume from: training '
                'starts at the beginning'
            )
            self._resume, self._load_from = False, self.cfg.get('start_from')
            super().load_or_resume()
            return
        self.resume(path)
        self.logger.info(f'Resumed from the last checkpoint, {path}')

    def load_checkpoint(
        self,
        filename: str,
        map_location: str | Callable = 'cpu',
        strict: bool = False,
        **kwargs,
    ) -> dict:
        """Load weights: all of the model's if a training goes on.

        Raises:
            ValueError: If the checkpoint does not fit the model.
            OSError: If another process could not load it.
        """
        load, loaded = super().load_checkpoint, {}
        args = (filename, map_location, strict or self._resume)
        with explain_mismatch(filename):
            # (Of a mismatch MMEngine tells the main process alone.)
            run_or_raise_on_all(lambda: loaded.update(load(*args, **kwargs)))
        return loaded

    def resume(self, filename: str, *args, **kwargs) -> None:
        """Resume; with ``fsdp`` from the CPU's memory, as it may be large.

        Raises:
            ValueError: If it is of another model or optimiser.
        """
        if is_sharded(self.model):
            kwargs['map_location'] = 'cpu'
        with explain_mismatch(filename):
            super().resume(filename, *args, **kwargs)

    def scale_lr(
        self, optim_wrapper: OptimWrapper, auto_scale_lr: dict | None = None
    ) -> None:
        """Scale the learning rate by the images of a step of the optimiser.

        MMEngine does not count those whose gradients are accumulated.
        """
        counts = getattr(optim_wrapper, '_accumulative_counts', 1)
        if counts > 1 and auto_scale_lr and auto_scale_lr.get('enable'):
            base = auto_scale_lr['base_batch_size'] / counts
            auto_scale_lr = {**auto_scale_lr, 'base_batch_size': base}
        super().scale_lr(optim_wrapper, auto_scale_lr)

    def _maybe_compile(self, target: str) -> None:
        """Compile the blocks of SAIM; others as MMEngine does."""
        options = self.cfg.get('compile')
        model = unwrap_model(self.model)
        if not options or not isinstance(model, SAIM):
            super()._maybe_compile(target)
            return
        compile_blocks(model, **({} if options is True else options))
        self.logger.info('The first iteration compiles.')
