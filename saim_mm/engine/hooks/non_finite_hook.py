"""NonFiniteHook: losses and gradients that are not finite."""

from __future__ import annotations

import functools
import math

import torch
from mmengine.hooks import Hook
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ...utils.check import check_arg
from ..resume import newest_checkpoint


@HOOKS.register_module()
class NonFiniteHook(Hook):
    """Looks at every loss and gradient, and acts if one is not finite.

    The log says in which iteration and process, of which files, and how large
    the gradients are. A step whose gradients are not finite is never made.
    (``AmpOptimWrapper``'s scaler leaves out steps itself: of it, of several
    optimisers and of MMEngine's strategies only the loss is looked at.)

    Args:
        policy: 'stop'; 'skip', leave the step out; or 'restore', set weights
            and optimiser back to the last checkpoint and go on with the next
            images.
        max_times: After how many steps left out training stops all the same.

    Raises:
        ValueError: If an argument is not as above.
        FloatingPointError: If training stops.
    """

    priority = 'VERY_HIGH'
    policies = ('stop', 'skip', 'restore')

    def __init__(self, policy: str = 'stop', max_times: int = 10) -> None:
        check_arg(
            policy in self.policies,
            'NonFiniteHook.policy',
            policy,
            f'one of {list(self.policies)}',
        )
        check_arg(
            max_times > 0, 'NonFiniteHook.max_times', max_times, 'positive'
        )
        self.policy = policy
        self.max_times = max_times
        self.times = 0
        self.norm = 0.0

    def before_train(self, runner: Runner) -> None:
        """Put a look at the gradients before every step of the optimiser."""
        wrapper = runner.optim_wrapper
        if not isinstance(wrapper, OptimWrapper) or isinstance(
            wrapper, AmpOptimWrapper
        ):
            return
        step = wrapper.step

        @functools.wraps(step)
        def step_if_finite(**kwargs) -> None:
            self.norm = gradient_norm(wrapper.optimizer).item()
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
        """Act.

        Raises:
            FloatingPointError: If the policy is to stop, or it happened too
                often.
        """
        losses = {
            name: float(torch.as_tensor(value).detach().mean())
            for name, value in (outputs or {}).items()
            if 'loss' in name and not isinstance(value, (list, tuple))
        }
        norm, self.norm = self.norm, 0.0
        if all(map(math.isfinite, [*losses.values(), norm])):
            return
        samples = (data_batch or {}).get('data_samples') or []
        message = (
            f'not finite in iteration {runner.iter + 1}, process '
            f'{runner.rank}: loss {losses}, norm of the gradients {norm:g}; '
            f'its files: {[s.get("img_path", "?") for s in samples]}'
        )
        # Of the loss alone one process may know; the gradients are shared.
        self.times += not math.isfinite(norm)
        if self.policy == 'stop' or self.times > self.max_times:
            raise FloatingPointError(
                f'{message}. NonFiniteHook.policy={self.policy!r}, '
                f'max_times={self.max_times}: stopped; the last checkpoint is '
                'from before. A smaller learning rate, '
                'optim_wrapper.clip_grad or float32 may help'
            )
        runner.logger.error(f'{message}; the step is left out')
        if self.policy == 'restore' and not math.isfinite(norm):
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
