"""SAIMRunner: MMEngine's Runner, with a look at the machine first."""

from functools import partial
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Optional, Union

import torch
import torch.distributed
from mmengine.config import Config
from mmengine.dataset import InfiniteSampler
from mmengine.device import get_device
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import BaseOptimWrapper
from mmengine.registry import RUNNERS
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner
from torch import nn
from torch.utils.data import DataLoader

from ..checkpoint.atomic import commit, remove, tmp_path, writing
from ..checkpoint.sharded import REST, strip_tensors, write_tensors
from ..datasets.workers import worker_init_fn
from ..models.saim import SAIM
from ..utils.dist import run_or_raise_on_all, unwrap_model
from .checks.config import check_config, schedulers
from .checks.dataset import check_dataset
from .checks.device import check_machine, check_precision
from .fsdp import check_fsdp, distribute_state_dict, is_sharded, shard
from .hooks import plain_state_hook  # noqa: F401
from .resume import (
    batch_size_of,
    batches_left,
    load_newest,
    replay_schedules,
    reset_schedules,
)


@RUNNERS.register_module()
class SAIMRunner(Runner):
    """MMEngine's Runner for configs with ``runner_type = 'SAIMRunner'``.

    Before anything is built it refuses what this machine cannot do (mixed
    precision or GPUs that are not there), and lets several processes train on
    CPUs, which MMEngine's launcher does not. ``compile = True`` (or a dict of
    ``torch.compile``'s arguments) compiles the loss of SAIM as one graph, and
    with it its backward pass. ``fsdp = True`` shares weights, gradients and
    the optimiser out among the processes of pre-training.
    """

    #: The epoch that was resumed in its middle, and how many of its images
    #: (of all processes) were trained before.
    left_out = (0, 0)

    @classmethod
    def from_cfg(cls, cfg: Config) -> 'SAIMRunner':
        """Build a runner from a config.

        Args:
            cfg (Config): The config.

        Returns:
            SAIMRunner: The runner.

        Raises:
            ValueError: If a number in the config cannot be, or it asks for
                what this machine has not.
        """
        check_config(cfg)
        check_fsdp(cfg)
        check_machine(cfg)
        return super().from_cfg(cfg)

    def register_default_hooks(self, hooks: Optional[dict] = None) -> None:
        """Register MMEngine's hooks, that of plain checkpoints, the config's.

        Args:
            hooks (dict, optional): As for MMEngine's.
        """
        own = dict(plain_state=dict(type='PlainStateHook'))
        super().register_default_hooks({**own, **(hooks or {})})

    def wrap_model(
        self, model_wrapper_cfg: Optional[dict], model: nn.Module
    ) -> nn.Module:
        """Wrap the model for distributed training.

        On CPUs SyncBN, which has no form for them, becomes BatchNorm.

        Args:
            model_wrapper_cfg (dict, optional): Config of the wrapper.
            model (nn.Module): The model.

        Returns:
            nn.Module: The wrapped model; with ``fsdp`` itself, shared out.
        """
        if self.cfg.get('fsdp') and self.distributed:
            self.model = model.to(get_device())
            # MMEngine does so later, when no process has the whole.
            super()._init_model_weights()
            return shard(self.model)
        if get_device() == 'cpu':
            model = revert_sync_batchnorm(model)
        return super().wrap_model(model_wrapper_cfg, model)

    def _init_model_weights(self) -> None:
        if not is_sharded(self.model):
            super()._init_model_weights()

    @staticmethod
    def build_dataloader(
        dataloader: Union[DataLoader, dict], *args, **kwargs
    ) -> DataLoader:
        """Build a dataloader, whose processes leave signals to this one.

        Clusters send SIGTERM to every process; without its loading processes
        the training could not save what it has.

        Args:
            dataloader (DataLoader | dict): It, or its config.
            *args: As for MMEngine's.
            **kwargs: As for MMEngine's.

        Returns:
            DataLoader: The dataloader.
        """
        loader = Runner.build_dataloader(dataloader, *args, **kwargs)
        finished = torch.zeros(1).share_memory_()
        # (In processes of multiprocessing nothing of atexit is called.)
        Finalize(None, finished.fill_, (1,), exitpriority=100)
        loader.worker_init_fn = partial(
            worker_init_fn, loader.worker_init_fn, finished
        )
        return loader

    def build_train_loop(self, loop: Union[BaseLoop, dict]) -> BaseLoop:
        """Build the training loop.

        Args:
            loop (BaseLoop | dict): The loop, or its config.

        Raises:
            ValueError: If the dataset does not fill one batch, or does not
                fit the classifier.
            FileNotFoundError: If its list names files that are not there.
        """
        loop = super().build_train_loop(loop)
        loader = loop.dataloader
        model = unwrap_model(self.model)
        check_dataset(loader.dataset, model)
        if hasattr(loader.dataset, 'report'):
            loader.dataset.report = Path(self.work_dir, 'unreadable_files.txt')
        endless = isinstance(loader.sampler, InfiniteSampler) or getattr(
            loader.sampler, 'infinite', False
        )
        if not endless and len(loader) == 0:
            raise ValueError(
                f'train_dataloader.batch_size={loader.batch_size}: must be at '
                f'most the {len(loader.dataset)} images of the dataset (for '
                'each process), or set train_dataloader.drop_last=False'
            )
        return loop

    def train(self) -> nn.Module:
        """Train.

        Returns:
            nn.Module: The trained model.

        Raises:
            RuntimeError: If a loading process died, with the files that were
                being read.
        """
        try:
            return super().train()
        except RuntimeError as error:
            if 'DataLoader worker' not in str(error):
                raise
            read = getattr(
                self.train_dataloader.dataset, 'files_in_flight', list
            )
            raise RuntimeError(
                f'{str(error).strip()} What loading processes were reading: '
                f'{read() or "unknown"}. One of these may be the cause; or '
                'memory (fewer train_dataloader.num_workers)'
            ) from error

    def build_optim_wrapper(self, optim_wrapper: dict) -> BaseOptimWrapper:
        """Build the optimiser.

        Args:
            optim_wrapper (dict): Its config.

        Raises:
            ValueError: If it asks for a precision that the machine has not.
        """
        if isinstance(optim_wrapper, dict):
            check_precision(optim_wrapper.get('type'))
        return super().build_optim_wrapper(optim_wrapper)

    def save_checkpoint(
        self, out_dir: str, filename: str, *args, **kwargs
    ) -> None:
        """Save a checkpoint, whole or not at all.

        MMEngine writes into the final file, so that a process that is killed
        while it writes leaves a broken one. With ``fsdp`` it is a folder, into
        which each process writes its part.

        Args:
            out_dir (str): The folder.
            filename (str): The file's name.
            *args: As for MMEngine's.
            **kwargs: As for MMEngine's.

        Raises:
            OSError: In all processes, if it cannot be written; what was there
                is as before.
        """
        if '://' in str(out_dir):
            super().save_checkpoint(out_dir, filename, *args, **kwargs)
            return
        path = Path(out_dir, filename)
        part = tmp_path(path)
        save = super().save_checkpoint

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

    def call_hook(self, fn_name: str, **kwargs) -> None:
        """Call the hooks, then cut or leave out what ``fsdp`` shares out.

        A checkpoint that is saved says how long an epoch is.

        Args:
            fn_name (str): Which.
            **kwargs: As for MMEngine's.
        """
        super().call_hook(fn_name, **kwargs)
        if fn_name == 'before_save_checkpoint':
            kwargs['checkpoint']['meta'].update(
                epoch_length=len(self.train_dataloader),
                images_per_step=self._images_per_step(),
            )
        if 'checkpoint' not in kwargs or not is_sharded(self.model):
            return
        if fn_name == 'before_save_checkpoint':
            strip_tensors(kwargs['checkpoint'])
        else:
            optimizer = getattr(self.optim_wrapper, 'optimizer', None)
            distribute_state_dict(kwargs['checkpoint'], self.model, optimizer)

    def load_or_resume(self) -> None:
        """Load or resume, from the last checkpoint that is whole.

        Raises:
            OSError: If some processes can load it and others cannot.
        """
        if self._has_loaded or not self._resume or self._load_from is not None:
            super().load_or_resume()
            return
        path = load_newest(self.work_dir, self.resume, self.logger)
        if path is not None:
            self.logger.info(f'Resumed from the last checkpoint, {path}')
            self._has_loaded = True
            return
        self.logger.info(
            f'No checkpoint in {self.work_dir} to resume from: training '
            'starts at the beginning'
        )

    def resume(self, filename: str, *args, **kwargs) -> None:
        """Resume, also in the middle of an epoch.

        If steps have other numbers of images than before, the count of
        iterations and the schedules go on at the same part of the epochs.

        Args:
            filename (str): The checkpoint.
            *args: As for MMEngine's.
            **kwargs: As for MMEngine's.

        Raises:
            RuntimeError: If a schedule cannot do so.
        """
        if is_sharded(self.model):  # a whole one may not fit a GPU
            kwargs['map_location'] = 'cpu'
        super().resume(filename, *args, **kwargs)
        done = self._loaded_meta.get('images_of_epoch', 0) // self.world_size
        sampler = self.train_dataloader.sampler
        if done and hasattr(sampler, 'skip'):
            sampler.skip(done)
        else:
            done = 0
        self.left_out = (self.epoch, done * self.world_size)
        self._fit_steps(done)

    def _images_per_step(self) -> int:
        """Of all processes, and of all iterations of a step."""
        counts = getattr(self.optim_wrapper, '_accumulative_counts', 1)
        return batch_size_of(self.train_dataloader) * self.world_size * counts

    def _fit_steps(self, done: int) -> None:
        """Count in steps of now what was counted in those of a checkpoint.

        Args:
            done (int): How many images of the epoch each process leaves out.
        """
        loop, loader = self.train_loop, self.train_dataloader
        images = self._images_per_step()
        before = self._loaded_meta.get('images_per_step', images)
        if before != images:
            self.logger.warning(
                f'A step now has {images} images; before, it had {before}. '
                'The learning rate is not scaled by that'
            )
        length = len(loader)
        before = self._loaded_meta.get('epoch_length', length)
        if before == length or not isinstance(loop, EpochBasedTrainLoop):
            return
        loop._iter = (self.epoch + 1) * length - batches_left(loader, done)
        message = (
            f'an epoch now has {length} iterations; before, it had {before}'
        )
        if self.param_schedulers:
            configs = schedulers(self.cfg)
            built = self.param_schedulers
            if (
                not isinstance(built, list)
                or len(configs) != len(built)
                or any(getattr(s, 'need_val_args', False) for s in built)
            ):
                raise RuntimeError(
                    f'resume: {message}, and param_scheduler cannot follow: '
                    'it needs to be of one optimiser, given in the config, '
                    'without ReduceOnPlateau. Resume with as many processes '
                    'as before, of the same batch_size'
                )
            reset_schedules(self.optim_wrapper)
            self.param_schedulers = self.build_param_scheduler(configs)
            replay_schedules(
                self.param_schedulers, self.iter, self.epoch, length
            )
        self.logger.warning(
            f'{message[0].upper()}{message[1:]}. Iterations are counted as '
            f'if it always had: this is {self.iter}, and the learning rate '
            'goes on at the same part of the epochs'
        )

    def load_checkpoint(self, filename: str, *args, **kwargs) -> dict:
        """Load weights.

        Args:
            filename (str): The checkpoint.
            *args: As for MMEngine's.
            **kwargs: As for MMEngine's.

        Returns:
            dict: The checkpoint.
        """
        checkpoint = super().load_checkpoint(filename, *args, **kwargs)
        self._loaded_meta = checkpoint.get('meta') or {}
        return checkpoint

    def scale_lr(
        self, optim_wrapper: BaseOptimWrapper, auto_scale_lr: Optional[dict]
    ) -> None:
        """Scale the learning rate by the images of a step of the optimiser.

        MMEngine does not count those whose gradients are accumulated.

        Args:
            optim_wrapper (BaseOptimWrapper): The optimiser.
            auto_scale_lr (dict, optional): As for MMEngine.
        """
        counts = getattr(optim_wrapper, '_accumulative_counts', 1)
        if counts > 1 and auto_scale_lr and auto_scale_lr.get('enable'):
            base = auto_scale_lr['base_batch_size'] / counts
            auto_scale_lr = {**auto_scale_lr, 'base_batch_size': base}
        super().scale_lr(optim_wrapper, auto_scale_lr)

    def _maybe_compile(self, target: str) -> None:
        """Compile what can be compiled without a break in the graph.

        MMEngine compiles ``train_step``, which calls the optimiser and the
        hooks of distributed training; of SAIM all tensor work is in
        ``compute_loss`` and its backward pass.
        """
        options = self.cfg.get('compile')
        model = unwrap_model(self.model)
        if not options or not isinstance(model, SAIM):
            super()._maybe_compile(target)
            return
        options = {} if options is True else dict(options)
        model.compute_loss = torch.compile(
            model.compute_loss,
            **{'fullgraph': True, 'dynamic': False, **options},
        )
        self.logger.info('The first iteration compiles, which takes minutes.')
