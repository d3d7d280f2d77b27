"""Readouts: one vector of an image, out of the tokens of a frozen encoder.

Each is a neck of mmpretrain's ``ImageClassifier`` for backbones that return
their tokens (``out_type='raw'``) or a map.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from mmpretrain.registry import MODELS as MMPRETRAIN_MODELS
from torch import Tensor, nn

from ..utils.check import check_arg


def mean_tokens(outputs: Sequence[Tensor]) -> Tensor:
    """The mean of the outputs of blocks, as tokens.

    Args:
        outputs: (B, T, C) each, or maps (B, C, H, W).

    Returns:
        (B, T, C); of a map T = H * W.

    Raises:
        ValueError: If they are of another kind.
    """
    shape = tuple(outputs[-1].shape)
    check_arg(
        len(shape) in (3, 4),
        'features',
        shape,
        "(B, T, C) or (B, C, H, W): set backbone.out_type='raw'",
    )
    if len(shape) == 4:
        outputs = [x.flatten(2).transpose(1, 2) for x in outputs]
    return torch.stack(list(outputs)).mean(dim=0)


class Readout(BaseModule):
    """What all readouts share: which tokens are read.

    Args:
        num_extra_tokens: Tokens before those of the patches; the class token
            is the first of them. Of a map there are none.
        num_blocks: The tokens are the mean of the backbone's last this many
            outputs (``backbone.out_indices`` says which these are).

    Raises:
        ValueError: If a number cannot be, or the features do not fit.
    """

    def __init__(self, num_extra_tokens: int = 1, num_blocks: int = 1) -> None:
        super().__init__()
        for field, value, least in (
            ('num_extra_tokens', num_extra_tokens, 0),
            ('num_blocks', num_blocks, 1),
        ):
            check_arg(
                isinstance(value, int) and value >= least,
                f'{type(self).__name__}.{field}',
                value,
                f'an integer, at least {least}',
            )
        self.num_extra_tokens = num_extra_tokens
        self.num_blocks = num_blocks

    def forward(self, feats: Sequence[Tensor] | Tensor) -> tuple[Tensor]:
        """Read the tokens out.

        Args:
            feats: Outputs of blocks, or one: (B, T, C) with class token and
                patches, or a map (B, C, H, W).

        Returns:
            One, (B, C).
        """
        feats = [feats] if isinstance(feats, Tensor) else list(feats)
        check_arg(
            len(feats) >= self.num_blocks,
            f'{type(self).__name__}.num_blocks',
            self.num_blocks,
            f'at most {len(feats)}, the outputs that backbone.out_indices '
            'asks for',
        )
        tokens = mean_tokens(feats[-self.num_blocks :])
        extra = 0 if feats[-1].ndim == 4 else self.num_extra_tokens
        check_arg(
            tokens.shape[1] > extra,
            f'{type(self).__name__}.num_extra_tokens',
            extra,
            f'less than {tokens.shape[1]}, the tokens of the backbone',
        )
        return (self.read(tokens, extra),)

    def read(self, tokens: Tensor, extra: int) -> Tensor:
        """(B, T, C), the first ``extra`` of them no patches -> (B, C)."""
        raise NotImplementedError


@MODELS.register_module()
class ClassToken(Readout):
    """The class token. Arguments as for :class:`Readout`."""

    def read(self, tokens: Tensor, extra: int) -> Tensor:
        check_arg(
            extra > 0,
            'readout',
            'ClassToken',
            'another, such as PatchMean: the features have no class token',
        )
        return tokens[:, 0]


@MODELS.register_module()
class PatchMean(Readout):
    """The mean of the patches. Arguments as for :class:`Readout`."""

    def read(self, tokens: Tensor, extra: int) -> Tensor:
        return tokens[:, extra:].mean(dim=1)


class LearnedReadout(Readout):
    """A readout that attends to the tokens with learned queries.

    Args:
        embed_dims: Channels C.
        num_parts: Parts of the result, each with weights of its own.
        field: What they are called in the config.
        with_cls_token: Whether the tokens before the patches are attended to
            as well.
        **kwargs: As for :class:`Readout`.

    Raises:
        ValueError: If C cannot be cut into so many parts.
    """

    def __init__(
        self,
        embed_dims: int,
        num_parts: int,
        field: str,
        with_cls_token: bool = False,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        check_arg(
            isinstance(num_parts, int)
            and num_parts > 0
            and embed_dims % num_parts == 0,
            f'{type(self).__name__}.{field}',
            num_parts,
            f'a positive divisor of embed_dims={embed_dims}',
        )
        self.embed_dims = embed_dims
        self.num_parts = num_parts
        self.with_cls_token = with_cls_token

    def select(self, tokens: Tensor, extra: int) -> Tensor:
        """The tokens that are attended to."""
        check_arg(
            tokens.shape[-1] == self.embed_dims,
            f'{type(self).__name__}.embed_dims',
            self.embed_dims,
            f'{tokens.shape[-1]}, the channels of the backbone',
        )
        return tokens if self.with_cls_token else tokens[:, extra:]

    def attend(self, tokens: Tensor, queries: Tensor, value: Tensor) -> Tensor:
        """Means of the tokens, of which each part of the values takes one.

        The mean is taken before the product with the values, which is linear:
        so that is made once for an image and not for every token.

        Args:
            tokens: (B, T, C).
            queries: (M, C), scaled.
            value: (C, C), the weight of a linear layer.

        Returns:
            (B, C).
        """
        weights = (queries @ tokens.transpose(1, 2)).softmax(-1)  # (B, M, T)
        means = weights @ tokens  # (B, M, C)
        parts = value.unflatten(0, (self.num_parts, -1))  # (M, C / M, C)
        return torch.einsum('bmc,mdc->bmd', means, parts).flatten(1)


@MODELS.register_module()
class AttentivePooling(LearnedReadout):
    """Attentive pooling (AIM, El-Nouby et al. 2024).

    BatchNorm without affine, keys and values by linear layers, one learned
    query. (A bias of the keys would change nothing.)

    Args:
        embed_dims: Channels C.
        num_heads: Heads, as many as the encoder has.
        **kwargs: As for :class:`LearnedReadout`.
    """

    def __init__(self, embed_dims: int, num_heads: int, **kwargs) -> None:
        super().__init__(embed_dims, num_heads, 'num_heads', **kwargs)
        self.bn = nn.BatchNorm1d(embed_dims, affine=False, eps=1e-6)
        self.query = nn.Parameter(torch.empty(embed_dims))
        nn.init.normal_(self.query, std=0.02)
        self.key = nn.Linear(embed_dims, embed_dims, bias=False)
        self.value = nn.Linear(embed_dims, embed_dims, bias=False)

    def read(self, tokens: Tensor, extra: int) -> Tensor:
        tokens = self.select(tokens, extra)
        tokens = self.bn(tokens.flatten(0, 1)).view_as(tokens)
        query, key = (
            x.unflatten(0, (self.num_parts, -1))  # (M, C / M), (M, C / M, C)
            for x in (self.query, self.key.weight)
        )
        # The query meets the keys' weight before the tokens do.
        queries = torch.einsum('md,mdc->mc', query, key)
        scale = query.shape[1] ** -0.5
        return self.attend(tokens, scale * queries, self.value.weight)


@MODELS.register_module()
class EfficientProbing(LearnedReadout):
    """Efficient probing (Psomas et al. 2026, "Attention, Please!").

    Learned queries q_m attend to the tokens x_i themselves: weights w_m =
    softmax_i(q_m x_i / sqrt(C)), and the result is [sum_i w_mi (V x_i)_m]_m,
    of V x_i cut into M parts.

    Args:
        embed_dims: Channels C.
        num_queries: M, a divisor of C.
        **kwargs: As for :class:`LearnedReadout`.
    """

    def __init__(
        self, embed_dims: int, num_queries: int = 32, **kwargs
    ) -> None:
        super().__init__(embed_dims, num_queries, 'num_queries', **kwargs)
        self.query = nn.Parameter(torch.empty(num_queries, embed_dims))
        nn.init.normal_(self.query, std=0.02)
        self.value = nn.Linear(embed_dims, embed_dims, bias=False)

    def read(self, tokens: Tensor, extra: int) -> Tensor:
        scale = self.embed_dims**-0.5
        return self.attend(
            self.select(tokens, extra), scale * self.query, self.value.weight
        )


#: Readouts that have nothing to learn, by the names that users give them.
FIXED = dict(cls_token=ClassToken, patch_mean=PatchMean)


def build_readout(
    readout: str | dict | nn.Module, num_extra_tokens: int
) -> Readout:
    """Build a readout of features as they are.

    Args:
        readout: 'cls_token' or 'patch_mean'; the config of a readout; or a
            trained :class:`Readout`.
        num_extra_tokens: Of the backbone.

    Raises:
        ValueError: If there is no such readout, or its weights would be those
            that it was initialised with.
    """
    right = (
        f'one of {list(FIXED)}, a config such as '
        "dict(type='PatchMean', num_blocks=2), or a trained readout"
    )
    if isinstance(readout, nn.Module):
        check_arg(
            isinstance(readout, Readout),
            'readout',
            type(readout).__name__,
            f'{right}; of what fit_readout returns the first part, [0]',
        )
        return readout.eval()
    if isinstance(readout, str):
        check_arg(readout in FIXED, 'readout', readout, right)
        return FIXED[readout](num_extra_tokens=num_extra_tokens)
    check_arg(isinstance(readout, dict), 'readout', readout, right)
    built = MMPRETRAIN_MODELS.build(
        {'num_extra_tokens': num_extra_tokens, **readout}
    )
    check_arg(
        not any(True for _ in built.parameters()),
        'readout',
        readout,
        'a trained readout, because this one has weights to learn',
    )
    return built.eval()
