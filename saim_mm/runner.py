"""SAIMRunner: MMEngine's Runner, with a look at the machine first."""

import contextlib
import ctypes
import logging
import os
import re
import signal
import sys
from collections.abc import Callable
from functools import partial
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any, Optional, Union

import torch
import torch.distributed
from mmengine.config import Config
from mmengine.dataset import InfiniteSampler
from mmengine.device import get_device
from mmengine.dist import (
    broadcast_object_list,
    get_world_size,
    is_main_process,
)
from mmengine.fileio import list_from_file
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper, revert_sync_batchnorm
from mmengine.optim import BaseOptimWrapper
from mmengine.registry import RUNNERS
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner
from torch import nn
from torch.utils.data import DataLoader, Dataset

from .algorithm import SAIM
from .checkpoint import finish, part_of, remove, writing
from .errors import attempt, check_inside, together
from .schedule import (
    batch_size_of,
    batches_left,
    replay,
    to_the_beginning,
)
from .settings import check_settings, schedulers
from .sharding import (
    REST,
    check_fsdp,
    is_sharded,
    leave_out_tensors,
    shard,
    share_out,
    write_tensors,
)

#: The checkpoint that a signal made.
INTERRUPTED = 'interrupted.pth'


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
        check_settings(cfg)
        check_fsdp(cfg)
        check_machine(cfg)
        return super().from_cfg(cfg)

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
            leave_signals, loader.worker_init_fn, finished
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
        model = unwrap(self.model)
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
            read = getattr(self.train_dataloader.dataset, 'being_read', list)
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
        part = part_of(path)
        save = super().save_checkpoint

        def write() -> None:
            if is_sharded(self.model):
                save(str(part), REST, *args, **kwargs)
            else:
                remove(part)  # of a killed training with fsdp
                save(out_dir, part.name, *args, **kwargs)
            finish(path)

        with writing(path):
            if is_sharded(self.model):
                write_tensors(
                    dict(
                        state_dict=self.model.state_dict(),
                        optimizer=self.optim_wrapper.state_dict(),
                    ),
                    part,
                )
            together(write, main_only=True)

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
            leave_out_tensors(kwargs['checkpoint'])
        else:
            optimizer = getattr(self.optim_wrapper, 'optimizer', None)
            share_out(kwargs['checkpoint'], self.model, optimizer)

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
            to_the_beginning(self.optim_wrapper)
            self.param_schedulers = self.build_param_scheduler(configs)
            replay(self.param_schedulers, self.iter, self.epoch, length)
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
        model = unwrap(self.model)
        if not options or not isinstance(model, SAIM):
            super()._maybe_compile(target)
            return
        options = {} if options is True else dict(options)
        model.compute_loss = torch.compile(
            model.compute_loss,
            **{'fullgraph': True, 'dynamic': False, **options},
        )
        self.logger.info('The first iteration compiles, which takes minutes.')


def leave_signals(
    init: Optional[Callable], finished: torch.Tensor, worker: int
) -> None:
    """Start a loading process, which does not stop before its parent does.

    Args:
        init (Callable, optional): What is called beside.
        finished (Tensor): Shared; not 0 when the parent ends, which then sends
            SIGTERM and waits.
        worker (int): Its number.
    """

    def stop_if_finished(*_) -> None:
        if finished.item():
            os._exit(0)

    if sys.platform == 'linux':
        # PR_SET_PDEATHSIG: or it would outlive a parent that is killed, if
        # the pipe to it is full.
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    signal.signal(signal.SIGTERM, stop_if_finished)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    if init is not None:
        init(worker)


def find_checkpoints(work_dir: Union[str, Path]) -> list[Path]:
    """The checkpoints of a training, the newest first.

    Args:
        work_dir (str | Path): Its folder.

    Returns:
        list[Path]: First the one that the file ``last_checkpoint`` names, if
        it is there; then the others by the time that they were written. One
        that had stepped aside when the power failed counts.
    """
    folder, times = Path(work_dir), {}
    for path in folder.glob('*.pth*'):
        name = path.name.removesuffix('.old')
        if (
            name == INTERRUPTED or re.fullmatch(r'(epoch|iter)_\d+\.pth', name)
        ) and not (name != path.name and path.with_name(name).exists()):
            with contextlib.suppress(FileNotFoundError):  # gone by now
                times[path] = path.stat().st_mtime_ns
    found = sorted(times, key=times.get, reverse=True)
    pointer = folder / 'last_checkpoint'
    if pointer.is_file():
        # It may be empty, or of a folder that was moved.
        last = Path(pointer.read_text())
        names = (last.name, f'{last.name}.old')
        found.sort(key=lambda path: path.name not in names)
    return found


def load_newest(
    work_dir: Union[str, Path],
    load: Callable[[str], Any],
    logger: logging.Logger,
) -> Optional[Path]:
    """Load the newest checkpoint that is whole, the same in all processes.

    Args:
        work_dir (str | Path): Its folder, of which the main process's view
            counts.
        load (Callable): Takes a path, and raises ValueError if it is broken.
        logger (logging.Logger): Gets the names of broken ones.

    Returns:
        Path | None: Which it was; None if there was none.

    Raises:
        OSError: If some processes can load it and others cannot, or not for
            the same reason.
    """
    for path in shared_checkpoints(work_dir):
        error, errors = attempt(partial(load, str(path)))
        if not errors:
            return path
        kinds = {text.split(':')[0] for text in errors.values()}
        # All go on to an older one, or none does.
        if len(errors) < get_world_size() or len(kinds) > 1:
            raise OSError(
                f'{path}: processes {sorted(errors)} of {get_world_size()} '
                f'cannot load it ({"; ".join(sorted(set(errors.values())))}). '
                f'work_dir={str(work_dir)!r} must be a folder that all '
                'machines see; if it is, start again with --resume'
            ) from error
        if not isinstance(error, ValueError):
            raise error
        logger.warning(f'Not loaded: {error}')
    return None


def shared_checkpoints(work_dir: Union[str, Path]) -> list[Path]:
    """What :func:`find_checkpoints` finds in the main process, for all.

    Args:
        work_dir (str | Path): The folder.
    """
    found = [find_checkpoints(work_dir) if is_main_process() else None]
    broadcast_object_list(found)
    return found[0]


def unwrap(model: nn.Module) -> nn.Module:
    """The model, out of the wrapper of distributed training."""
    return model.module if is_model_wrapper(model) else model


def check_dataset(dataset: Dataset, model: nn.Module) -> None:
    """Compare a dataset with the model's heads, and with the disk.

    Args:
        dataset (Dataset): For training.
        model (nn.Module): The model.

    Raises:
        ValueError: If the number of classes is not that of every head, or
            one for a classifier.
        FileNotFoundError: If one of a thousand files of a classification
            dataset's list is missing.
    """
    classes = (getattr(dataset, 'metainfo', None) or {}).get('classes')
    heads = {
        name: module.num_classes
        for name, module in model.named_modules()
        if re.search(r'(^|[._])head(\.\d+)?$', name)
        and not name.startswith('rpn_head')
        and isinstance(getattr(module, 'num_classes', None), int)
    }
    if classes is None or not heads:
        return
    classifier = 'head' in heads
    if classifier and len(classes) < 2:
        raise ValueError(
            f'train_dataloader.dataset.data_root={dataset.data_root!r}: must '
            f'hold at least two classes, a folder each; found {list(classes)}'
        )
    for name, number in heads.items():
        if number != len(classes):
            raise ValueError(
                f'model.{name}.num_classes={number}: must be {len(classes)}, '
                'the classes of the training data '
                f'({", ".join(classes[:5])}{", ..." * (len(classes) > 5)})'
            )
    if not classifier:
        return
    if dataset.ann_file:
        field = f'train_dataloader.dataset.ann_file={dataset.ann_file!r}'
        for line in list_from_file(dataset.ann_file):
            if line.startswith('/') or '..' in line:
                path = os.path.join(dataset.img_prefix, line.rsplit(' ', 1)[0])
                check_inside(path, dataset.img_prefix, field)
    for index in range(0, len(dataset), max(1, len(dataset) // 1000)):
        path = dataset.get_data_info(index).get('img_path', '')
        if '://' not in path and not Path(path).exists():
            raise FileNotFoundError(
                f'{path}: no such file, though '
                f'train_dataloader.dataset.ann_file={dataset.ann_file!r} '
                'names it; correct the list, or data_root and data_prefix'
            )


def check_precision(optim_wrapper_type: Optional[str]) -> None:
    """Refuse mixed precision of a kind that there is not here.

    Args:
        optim_wrapper_type (str, optional): ``optim_wrapper.type``.

    Raises:
        ValueError: Naming the types that work here.
    """
    field = f'optim_wrapper.type={optim_wrapper_type!r}'
    option = '--cfg-options optim_wrapper.type'
    if optim_wrapper_type == 'AmpOptimWrapper' and get_device() == 'cpu':
        raise ValueError(
            f'{field}: float16 needs a GPU, and PyTorch finds none here. On a '
            f'CPU leave out --amp, or add {option}=OptimWrapper (float32) or '
            '=BFloat16OptimWrapper'
        )
    if optim_wrapper_type != 'BFloat16OptimWrapper':
        return
    if get_device() == 'cuda' and not torch.cuda.is_bf16_supported():
        raise ValueError(
            f'{field}: {torch.cuda.get_device_name()} has no bfloat16; train '
            f'in float16: {option}=AmpOptimWrapper'
        )
    if get_device() == 'cpu' and not cpu_has_bfloat16():
        print_log(
            f'{field}: this CPU has no bfloat16 instructions, so float32 is '
            f'faster: {option}=OptimWrapper',
            logger='current',
            level=logging.WARNING,
        )


def cpu_has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 in hardware, on Linux."""
    path = Path('/proc/cpuinfo')
    flags = path.read_text() if path.exists() else ''
    return bool(re.search(r'\b(avx512_bf16|amx_bf16|bf16)\b', flags))


def check_machine(cfg: Config) -> None:
    """Check a config for this machine, and adapt it to one without GPUs.

    Args:
        cfg (Config): The config, see :func:`prepare_for_cpu`.

    Raises:
        ValueError: If it asks for GPUs that are not there.
    """
    if get_device() == 'cpu':
        prepare_for_cpu(cfg)
    rank, gpus = int(os.getenv('LOCAL_RANK', 0)), torch.cuda.device_count()
    if 0 < gpus <= rank:
        raise ValueError(
            f'{os.getenv("LOCAL_WORLD_SIZE")} processes were launched on '
            f'this machine, one for each GPU: must be at most {gpus}, '
            'the GPUs that PyTorch finds here'
        )


def prepare_for_cpu(cfg: Config) -> None:
    """Check a config for a machine without an accelerator, and adapt it.

    Args:
        cfg (Config): The config. The settings of distributed training are
            changed in place if processes were launched.

    Raises:
        ValueError: If GPUs are asked for.
    """
    gpus = gpus_asked_of_mim(parent_command())
    if gpus:
        raise ValueError(
            f'--gpus {gpus}: PyTorch finds no GPU here '
            f'(torch {torch.__version__}). Train on the CPU with --gpus 0, or '
            'check the driver with nvidia-smi'
        )

    launcher = cfg.get('launcher', 'none')
    if launcher == 'slurm':
        raise ValueError(
            "launcher='slurm': the nodes need GPUs, and PyTorch "
            'finds none here; on CPUs use tools/dist_train.sh'
        )
    if launcher == 'pytorch':
        if not torch.distributed.is_initialized():
            # MMEngine selects a CUDA device before it initialises.
            torch.distributed.init_process_group(backend='gloo')
            if torch.distributed.get_rank() == 0:
                print_log(
                    'No GPU: the processes train on CPUs, through gloo',
                    logger='current',
                )
        if cfg.get('model_wrapper_cfg') is None:
            cfg.model_wrapper_cfg = dict(
                type='MMDistributedDataParallel', device_ids=None
            )


def parent_command() -> str:
    """Command line of the process that started this one, on Linux."""
    path = Path(f'/proc/{os.getppid()}/cmdline')
    return path.read_text().replace('\0', ' ') if path.exists() else ''


def gpus_asked_of_mim(command: str) -> int:
    """How many GPUs a ``mim train`` command asks for.

    ``mim train --gpus N`` does not hand N on to the training script unless it
    launches N processes, so a missing GPU would go unnoticed.

    Args:
        command (str): A command line.

    Returns:
        int: N, or 0 if it is no ``mim train`` with GPUs.
    """
    if not re.search(r'\bmim\b.* (train|test|run) ', command):
        return 0
    found = re.search(r' (?:--gpus|-G)[ =](\d+)', command)
    return int(found.group(1)) if found else 0
