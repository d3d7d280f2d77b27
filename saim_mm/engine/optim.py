"""Optimisation at less cost: bfloat16 without loss scaling, few groups."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS
from mmengine.runner import autocast
from torch import nn

from ..utils.check import check_arg, check_share


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
            model: The model in training.
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
            params: The groups, changed in place.
            prefix: Its name in the model. Defaults to '', the model.
            **kwargs: As for the default constructor.
        """
        super().add_params(params, module, prefix=prefix, **kwargs)
        if not prefix:
            params[:] = merge_groups(params)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Layer-wise decay of the learning rate, in any toolbox of OpenMMLab.

    A parameter of block i of a ViT with N blocks learns at ``lr * rate ** (N -
    i)``, i from 0; what is before the blocks at ``lr * rate ** (N + 1)``; what
    is behind them at ``lr``, as in BEiT's and MAE's code. All other options
    are those of MMEngine's default constructor; groups are merged.

    ``paramwise_cfg`` needs ``layer_decay_rate`` (float), the rate. The model
    needs a ``backbone`` that says how deep a parameter is: a
    :class:`~saim_mm.SAIMViT`, or any of mmpretrain's with ``get_layer_depth``.

    Raises:
        ValueError: If the rate is no share, or the model has no such backbone.
    """

    def _validate_cfg(self) -> None:
        super()._validate_cfg()
        rate = (self.paramwise_cfg or {}).get('layer_decay_rate')
        check_share("paramwise_cfg['layer_decay_rate']", rate)

    def add_params(
        self, params: list[dict], module: nn.Module, prefix: str = '', **kwargs
    ) -> None:
        """Add the parameters of a module to the groups.

        Args:
            params: The groups, changed in place.
            prefix: Its name in the model. Defaults to '', the model.
            **kwargs: As for the default constructor.
        """
        super().add_params(params, module, prefix=prefix, **kwargs)
        if prefix:
            return
        rate = self.paramwise_cfg['layer_decay_rate']
        names = {p: name for name, p in module.named_parameters()}
        for group in params:
            (parameter,) = group['params']
            depth, depths = module.backbone.get_layer_depth(
                names[parameter], 'backbone.'
            )
            group['lr'] = group.get('lr', self.base_lr) * rate ** (
                depths - 1 - depth
            )
        params[:] = merge_groups(params)


def merge_groups(groups: list[dict]) -> list[dict]:
    """Put the parameters that share their options in one group.

    Args:
        groups: Of an optimiser.

    Returns:
        Fewer groups, in the order of their first parameters.

    Raises:
        ValueError: If one stands in it twice; it would be stepped twice.
    """
    parameters = [p for group in groups for p in group['params']]
    shared = len(parameters) - len(set(parameters))
    check_arg(
        not shared,
        "paramwise_cfg['bypass_duplicate']",
        False,
        f'True, because modules share {shared} parameters, and each has to be '
        'in one group alone',
    )
    merged = {}
    for group in groups:
        options = tuple(
            sorted((k, v) for k, v in group.items() if k != 'params')
        )
        merged.setdefault(options, []).extend(group['params'])
    return [
        dict(params=members, **dict(options))
        for options, members in merged.items()
    ]
