"""A look at the machine before anything is built."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from pathlib import Path

import torch
import torch.distributed
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import print_log


def check_precision(optim_wrapper_type: str | None) -> None:
    """Refuse mixed precision of a kind that there is not here.

    Args:
        optim_wrapper_type: ``optim_wrapper.type``.

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
    if get_device() == 'cuda' and not gpu_has_bfloat16():
        raise ValueError(
            f'{field}: {torch.cuda.get_device_name()} has no bfloat16; train '
            f'in float16: {option}=AmpOptimWrapper'
        )


def gpu_has_bfloat16() -> bool:
    """Whether the GPU multiplies bfloat16 in hardware: Ampere and later.

    (``torch.cuda.is_bf16_supported`` also counts GPUs that emulate it.)
    """
    return torch.version.hip is not None or (
        torch.cuda.get_device_capability() >= (8, 0)
    )


def cpu_has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 in hardware, on Linux."""
    path = Path('/proc/cpuinfo')
    flags = path.read_text() if path.exists() else ''
    return bool(re.search(r'\b(avx512_bf16|amx_bf16|bf16)\b', flags))


def keep_freed_memory() -> None:
    """Let glibc keep what is freed, for the tensors that follow.

    By default it gives large blocks back to the system, and each of the next
    step's tensors is mapped and cleared anew, page by page: up to a sixth of a
    step (``tools/benchmarks/pretrain.py``). Blocks of a GiB and more still go
    back.
    """
    if not sys.platform.startswith('linux'):
        return
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is None:  # another C library
        return
    mmap_threshold, trim_threshold = -3, -1  # glibc's malloc.h
    mallopt(mmap_threshold, 2**30)
    mallopt(trim_threshold, 2**31 - 1)


def check_machine(cfg: Config) -> None:
    """Check a config for this machine, and adapt it to one without GPUs.

    Args:
        cfg: The config, see :func:`prepare_for_cpu`.

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

    Without instructions for bfloat16 it is slower than float32, which is
    trained in instead. Freed memory is kept (:func:`keep_freed_memory`).

    Args:
        cfg: The config, changed in place: the precision, and the settings of
            distributed training if processes were launched.

    Raises:
        ValueError: If slurm is to launch processes, which need GPUs.
    """
    keep_freed_memory()
    optim_wrapper = cfg.get('optim_wrapper') or {}
    if (
        optim_wrapper.get('type') == 'BFloat16OptimWrapper'
        and not cpu_has_bfloat16()
    ):
        optim_wrapper['type'] = 'OptimWrapper'
        print_log(
            "optim_wrapper.type='OptimWrapper': training in float32, because "
            'this CPU has no instructions for bfloat16',
            logger='current',
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
        if cfg.get('model_wrapper_cfg') is None:
            cfg.model_wrapper_cfg = dict(
                type='MMDistributedDataParallel', device_ids=None
            )
