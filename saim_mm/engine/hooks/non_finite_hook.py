"""NonFiniteHook: losses and gradients that are not finite."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ...utils.check import check_arg, check_choice, check_positive_int
from ..fsdp import is_sharded
from ..resume import newest_checkpoint
from ..scalars import DeferredScalars


@HOOKS.register_module()
class NonFiniteHook(Hook):
    """Looks at every loss and gradient, and acts if one is not finite.

    The log says in which iteration and process, of which files, and how large
    the gradients are. A step whose gradients are not finite is never made:
    a fused Adam or AdamW leaves it out on the device, so nothing waits for
    that, and the hook acts one iteration later, or before :class:`SAIMRunner`
    writes a checkpoint.
    (``AmpOptimWrapper``'s scaler leaves out steps itself: of it, of several
    optimisers and of MMEngine's strategies only the loss is looked at.)

    Args:
        policy: 'stop'; 'skip', leave the step out; or 'restore', set weights
            and optimiser back to the last checkpoint and go on with the next
            images.
        max_times: After how many steps left out training stops all the same.

    Raises:
        ValueError: If an argument is not as above, or before training to
            'restore' where only the loss is looked at.
        FloatingPointError: If training stops.
    """

    priority = 'VERY_HIGH'
    policies = ('stop', 'skip', 'restore')

    def __init__(self, policy: str = 'stop', max_times: int = 10) -> None:
        check_choice('NonFiniteHook.policy', policy, self.policies)
        check_positive_int('NonFiniteHook.max_times', max_times)
        self.policy = policy
        self.max_times = max_times
        self.times = 0
        self.norm: torch.Tensor | float = 0.0
        self.watched = True
        self.seen = DeferredScalars()

    def before_train(self, runner: Runner) -> None:
        """Put a look at the gradients before every step of the optimiser."""
        self.seen.queue.clear()  # of a failed training
        wrapper = runner.optim_wrapper
        self.watched = isinstance(wrapper, OptimWrapper) and not isinstance(
            wrapper, AmpOptimWrapper
        )
        if not self.watched:
            check_arg(
                self.policy != 'restore',
                'NonFiniteHook.policy',
                self.policy,
                f"'stop' or 'skip' with {type(wrapper).__name__}: of it only "
                'the loss of each process is known',
            )
            return
        step, optimizer = wrapper.step, wrapper.optimizer

        @functools.wraps(step)
        def step_if_finite(**kwargs) -> None:
            norm = gradient_norm(optimizer)
            if (
                is_fused(optimizer)
                and not is_sharded(runner.model)
                and not wrapper.clip_grad_kwargs  # reads the norm itself
            ):
                # What PyTorch's GradScaler sets: not 0, and nothing changes.
                optimizer.found_inf = 1 - norm.isfinite().float()
                try:
                    step(**kwargs)
                finally:
                    optimizer.__dict__.pop('found_inf', None)
                self.norm = norm
                return
            self.norm = norm.item()
            if math.isfinite(self.norm):
                step(**kwargs)

        wrapper.step = step_if_finite

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Keep what this iteration gave, and act on the one before.

        Raises:
            FloatingPointError: If the policy is to stop, or it happened too
                often.
        """
        losses = {
            name: torch.as_tensor(value).detach().mean()
            for name, value in (outputs or {}).items()
            if 'loss' in name and not isinstance(value, (list, tuple))
        }
        self.seen.put(
            {**losses, 'norm of the gradients': self.norm},
            (runner.iter + 1, data_batch),
        )
        self.norm = 0.0
        self.catch_up(runner, keep=1)

    def after_train(self, runner: Runner) -> None:
        """Act on the last iteration."""
        self.catch_up(runner)

    def catch_up(self, runner: Runner, keep: int = 0) -> None:
        """Act on all iterations but the last ``keep``.

        Raises:
            FloatingPointError: As :meth:`after_train_iter`.
        """
        for values, (iteration, batch) in self.seen.take(keep):
            if not all(map(math.isfinite, values.values())):
                self._act(runner, values, iteration, files_of(batch))

    def _act(
        self,
        runner: Runner,
        values: dict[str, Any],
        iteration: int,
        files: list[str],
    ) -> None:
        *losses, norm = values.items()
        message = (
            f'not finite in iteration {iteration}, process {runner.rank}: '
            f'loss {dict(losses)}, {norm[0]} {norm[1]:g}; its files: {files}'
        )
        # Of the loss alone one process may know; the gradients are shared.
        left_out = not self.watched or not math.isfinite(norm[1])
        self.times += left_out
        if self.policy == 'stop' or self.times > self.max_times:
            raise FloatingPointError(
                f'{message}. NonFiniteHook.policy={self.policy!r}, '
                f'max_times={self.max_times}: stopped; the last checkpoint is '
                'from before. A smaller learning rate, '
                'optim_wrapper.clip_grad or float32 may help'
            )
        then = '; the step is left out' * self.watched
        runner.logger.error(f'{message}{then}')
        if self.policy == 'restore' and left_out:
            self._restore(runner)

    def _restore(self, runner: Runner) -> None:
        path = newest_checkpoint(runner)
        if path is None:
            runner.logger.warning('No checkpoint to restore yet')
            return
        wrapper = runner.optim_wrapper
        rates = [group['lr'] for group in wrapper.param_groups]  # of now
        checkpoint = runner.load_checkpoint(path)
        if 'optimizer' in checkpoint:
            wrapper.load_state_dict(checkpoint['optimizer'])
            for group, rate in zip(wrapper.param_groups, rates):
                group['lr'] = rate
        runner.logger.warning(f'Weights and optimiser are those of {path}')
        self.seen.queue.clear()  # it came of the weights of before


def gradient_norm(optimizer: torch.optim.Optimizer) -> torch.Tensor:
    """The norm of all gradients together.

    Returns:
        A scalar; 0 without any gradient.
    """
    gradients = [
        parameter.grad
        for group in optimizer.param_groups
        for parameter in group['params']
        if parameter.grad is not None
    ]
    if not gradients:
        return torch.zeros(())
    return torch.linalg.vector_norm(
        torch.stack([norm.float() for norm in torch._foreach_norm(gradients)])
    )


def is_fused(optimizer: torch.optim.Optimizer) -> bool:
    """Whether every step of it looks at ``found_inf`` itself.

    (So does a fused SGD, but if its first step is left out its momentum is
    memory that nobody has written: torch 2.14.)
    """
    return isinstance(
        optimizer, (torch.optim.Adam, torch.optim.AdamW)
    ) and all(group.get('fused') for group in optimizer.param_groups)


def files_of(batch: Any) -> list[str]:
    """The files of a batch, as far as it is one of the toolboxes'."""
    samples = batch.get('data_samples') if isinstance(batch, dict) else None
    return [
        sample.get('img_path', '?')
        for sample in (samples if isinstance(samples, (list, tuple)) else [])
        if hasattr(sample, 'get')
    ]
