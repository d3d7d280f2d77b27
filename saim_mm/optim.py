"""Optimisation at less cost: bfloat16 without loss scaling, few groups."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS
from mmengine.runner import autocast
from torch import nn


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """Mixed precision in bfloat16, on GPUs and CPUs.

    Forward passes run under autocast; weights, gradients and the optimiser
    stay in float32. bfloat16 has the range of float32, so gradients do not
    underflow and nothing scales the loss, unlike in MMEngine's
    ``AmpOptimWrapper``, which also refuses CPUs.

    Args:
        **kwargs: As for MMEngine's ``OptimWrapper``.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Forward passes in here are in bfloat16.

        Args:
            model (nn.Module): The model in training.
        """
        with super().optim_context(model), autocast(dtype=torch.bfloat16):
            yield


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MergedOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """MMEngine's default constructor, with as few groups as options.

    The default makes a group of every parameter, and the optimiser and every
    scheduler then work through hundreds of groups in each step. Here the
    parameters that share their options share a group; each gets the options
    that the default gives it.
    """

    def add_params(
        self, params: list[dict], module: nn.Module, prefix: str = '', **kwargs
    ) -> None:
        """Add the parameters of a module to the groups.

        Args:
            params (list[dict]): The groups, changed in place.
            module (nn.Module): The module.
            prefix (str): Its name in the model. Defaults to '', the model.
            **kwargs: As for the default constructor.
        """
        super().add_params(params, module, prefix=prefix, **kwargs)
        if prefix:
            return
        groups = {}
        for group in params:
            options = tuple(
                sorted((k, v) for k, v in group.items() if k != 'params')
            )
            groups.setdefault(options, []).extend(group['params'])
        params[:] = [
            dict(params=members, **dict(options))
            for options, members in groups.items()
        ]
