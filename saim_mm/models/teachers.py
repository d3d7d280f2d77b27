"""Encoders that look at whole images: for an order, or as the target."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from mmengine.runner import CheckpointLoader
from mmpretrain.registry import MODELS as MMPRETRAIN_MODELS
from torch import Tensor, nn

from ..utils.check import check_arg, check_share
from ..utils.dtype import at_least_float32
from ..utils.weights import shorten
from .attention import attention_weights
from .layers import TransformerBlock
from .vit import SAIMViT
from .vit_outputs import returning


@dataclass
class View:
    """What an encoder sees of whole images; without gradients.

    Args:
        patches: (B, L, C), the feature of each patch.
        cls_token: (B, C), that of the class token.
        last: The encoder's last block and what goes into it, (B, L + 1, C).
    """

    patches: Tensor
    cls_token: Tensor | None = None
    last: tuple[TransformerBlock, Tensor] | None = None

    @property
    def similarities(self) -> list[str]:
        """The kinds of :meth:`attention` that there are."""
        parts = dict(gap=self.patches, cls=self.cls_token, self=self.last)
        return [name for name, part in parts.items() if part is not None]

    def attention(self, similarity: str) -> Tensor:
        """How much attention each patch gets.

        Args:
            similarity: As for :class:`SemanticOrder`.

        Returns:
            (B, L), float32 at least; of 'cls' and 'gap' the sum is 1,
            of 'self' that and the class token's own share.

        Raises:
            ValueError: If it is none of :attr:`similarities`.
        """
        check_similarity(similarity, self.similarities)
        # Half precision would make many patches equal.
        with torch.autocast(self.patches.device.type, enabled=False):
            if similarity == 'self':
                return self.self_attention()
            (patches,) = at_least_float32(self.patches)
            if similarity == 'cls':
                first = self.cls_token.to(patches.dtype).unsqueeze(1)
            else:
                first = patches.mean(dim=1, keepdim=True)  # (B, 1, C)
            cosine = (
                F.normalize(first, dim=-1) * F.normalize(patches, dim=-1)
            ).sum(dim=-1)  # (B, L)
            return cosine.softmax(dim=-1)

    @torch.no_grad()
    def self_attention(self) -> Tensor:
        """The class token's attention in the last block, mean of the heads."""
        block, x = self.last
        x = block.ln1(*at_least_float32(x))
        weights = attention_weights(block.attn, x, slice(1))
        return weights.mean(dim=1)[:, 0, 1:]


def check_similarity(similarity: str, known: Sequence[str]) -> None:
    """Refuse an attention that an encoder does not give."""
    check_arg(
        similarity in known,
        'SemanticOrder.similarity',
        similarity,
        f"one of {list(known)}, which is what looks at the images gives ('cls'"
        " of a frozen ViT: with teacher.backbone.out_type='raw'; 'self': the "
        "model's own encoder or its moving average, of two blocks or more)",
    )


@torch.no_grad()
def look(vit: SAIMViT, images: Tensor) -> View:
    """Let an encoder look at whole images, in evaluation mode.

    Args:
        vit: With class token and final norm.
        images: (B, C, H, W), normalised.

    Returns:
        After the final norm.
    """
    last = vit.num_layers - 1
    training = vit.training
    vit.eval()
    try:
        with returning(vit, 'raw', [last - 1, last]):
            *before, tokens = vit(images)  # (B, L + 1, C) each
    finally:
        vit.train(training)
        # Autocast of older versions (2.9; not 2.13) keeps these weights
        # without their gradient, and training would go on with them.
        torch.clear_autocast_cache()
    return View(
        tokens[:, 1:],
        tokens[:, 0],
        (vit.layers[-1], before[0]) if before else None,
    )


def similarities_of(vit: SAIMViT) -> list[str]:
    """The kinds of attention in what :func:`look` returns."""
    return ['gap', 'cls', *(['self'] if vit.num_layers > 1 else [])]


@MODELS.register_module()
class MovingAverageTeacher(nn.Module):
    """The exponential moving average of the model's own encoder.

    :class:`~saim_mm.TeacherHook` updates it after every step; it is saved in
    the checkpoint. As in MMEngine, momentum is the share of the *new* weights:
    with the defaults and 800 epochs they are SemAIM's, whose decay rises from
    0.999 to 0.9999 over the first 100.

    Args:
        student: The encoder; :class:`~saim_mm.SAIM` fills it in.
        momentum: At the beginning.
        end_momentum: In the end.
        ramp: Share of the training in which the one goes linearly to the
            other.

    Raises:
        ValueError: If an argument is not a share.
    """

    def __init__(
        self,
        student: SAIMViT,
        momentum: float = 0.001,
        end_momentum: float = 0.0001,
        ramp: float = 1 / 8,
    ) -> None:
        super().__init__()
        self.similarities = similarities_of(student)
        for name, value in dict(
            momentum=momentum, end_momentum=end_momentum, ramp=ramp
        ).items():
            check_share(f'teacher.{name}', value)
        self.momentum = momentum
        self.end_momentum = end_momentum
        self.ramp = ramp
        self.embed_dims = student.embed_dims
        self.encoder = deepcopy(student).requires_grad_(False).eval()
        self.updated = False
        self._weight: Tensor | None = None

    def train(self, mode: bool = True) -> MovingAverageTeacher:
        """Stay in evaluation mode."""
        return super().train(False)

    def forward(self, images: Tensor) -> View:
        return look(self.encoder, images)

    @torch.no_grad()
    def start(self, student: SAIMViT) -> None:
        """Begin with the weights of the encoder."""
        for mine, new in zip(self.encoder.parameters(), student.parameters()):
            mine.copy_(new)

    @torch.no_grad()
    def update(self, student: SAIMViT, progress: float) -> None:
        """Take in the encoder's weights after a step.

        Args:
            progress: How far the training is, 0 to 1.
        """
        part = min(progress / self.ramp, 1)
        change = self.end_momentum - self.momentum
        momentum = self.momentum + part * change
        for mine, new in zip(self.encoder.parameters(), student.parameters()):
            mine.lerp_(new, momentum)
        self.updated = True

    def check_updated(self, student: SAIMViT) -> None:
        """Refuse to go on if the encoder is trained and the average is not.

        Raises:
            ValueError: Before the second step, if nothing updates it.
        """
        if self.updated:
            return
        weight = student.ln1.bias.detach()
        if self._weight is None:
            self._weight = weight.clone()
        check_arg(
            torch.equal(self._weight, weight),
            'default_hooks',
            'no TeacherHook',
            "with teacher=dict(type='TeacherHook') if model.teacher is a "
            'MovingAverageTeacher: the moving average does not move without',
        )


@MODELS.register_module()
class FrozenTeacher(nn.Module):
    """A pre-trained backbone of any kind that gives a feature for each patch.

    It is not trained, stays in evaluation mode, and is in no checkpoint: its
    weights are loaded by ``init_weights``, or when it first looks.

    Args:
        student: The encoder; :class:`~saim_mm.SAIM` fills it in.
        backbone: A backbone of mmpretrain with the same grid of patches, with
            ``init_cfg=dict(type='Pretrained', checkpoint=...)`` (and
            ``prefix``, as MMEngine's). Its output is a map (B, C, rows,
            columns), or a ViT's tokens with ``out_type='raw'``.
        neck: What follows, token by token, such as ``CLIPProjection``; with an
            ``init_cfg`` of its own.

    Raises:
        ValueError: If there is no checkpoint, the backbone's patches or
            channels are not the model's, or (in ``init_weights``) weights are
            missing.
    """

    def __init__(
        self, student: SAIMViT, backbone: dict, neck: dict | None = None
    ) -> None:
        super().__init__()
        self.grid = student.patch_resolution
        parts = {'backbone': backbone, **({'neck': neck} if neck else {})}
        for name, config in parts.items():
            init_cfg = config.get('init_cfg')
            check_arg(
                isinstance(init_cfg, dict)
                and init_cfg.get('type') == 'Pretrained'
                and bool(init_cfg.get('checkpoint')),
                f'teacher.{name}.init_cfg',
                init_cfg,
                "dict(type='Pretrained', checkpoint='...'): a teacher without "
                'weights has nothing to teach',
            )
            parts[name] = MMPRETRAIN_MODELS.build(
                {'_scope_': 'mmpretrain', **config}  # of its activations, too
            )
        parts = nn.ModuleDict(parts).requires_grad_(False)
        parts.eval()
        # In a tuple it is no sub-module: not saved, trained or shared out.
        self.parts = (parts,)
        size = (1, student.in_channels, *student.img_size)
        try:
            view = self._look(student.cls_token.new_zeros(size))
        except (RuntimeError, AssertionError) as error:
            raise ValueError(
                f'teacher.backbone={dict(backbone)}: must take images of '
                f"{size[1:]}, as model.backbone's: {error}"
            ) from error
        self.embed_dims = view.patches.shape[-1]
        self.similarities = view.similarities
        self.loaded = False

    def _apply(self, fn: Callable, recurse: bool = True) -> FrozenTeacher:
        """Go with the model to another device or type."""
        self.parts[0]._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def forward(self, images: Tensor) -> View:
        if not self.loaded:
            self.init_weights()
        return self._look(images)

    @torch.no_grad()
    def _look(self, images: Tensor) -> View:
        parts = self.parts[0]
        x = parts['backbone'](images)
        x = x[-1] if isinstance(x, (tuple, list)) else x
        extra = 0
        if x.ndim == 4:  # (B, C, rows, columns)
            grid = tuple(x.shape[2:])
            x = x.flatten(2).transpose(1, 2)  # (B, L, C)
        else:  # (B, extra + L, C)
            extra = getattr(parts['backbone'], 'num_extra_tokens', 1)
            fits = x.ndim == 3 and x.shape[1] - extra == math.prod(self.grid)
            grid = self.grid if fits else None
        check_arg(
            grid == self.grid,
            'teacher.backbone: output of shape',
            tuple(x.shape),
            f'features of {self.grid[0]} x {self.grid[1]} patches, as '
            'model.backbone has: choose img_size, patch_size and a teacher '
            "that fit each other (of a ViT, out_type='featmap' or 'raw')",
        )
        if 'neck' in parts:
            x = parts['neck'](x)
            x = x[-1] if isinstance(x, (tuple, list)) else x
        return View(x[:, extra:], x[:, 0] if extra else None)

    def init_weights(self) -> None:
        """Load the weights.

        Raises:
            FileNotFoundError: If there is no such checkpoint.
            ValueError: If it lacks weights, or has those of another size.
        """
        for name, part in self.parts[0].items():
            load_all(part, f'teacher.{name}.init_cfg', part.init_cfg)
        self.loaded = True


def load_all(module: nn.Module, field: str, init_cfg: dict) -> None:
    """Load a checkpoint that has every weight of a module, and no more.

    Args:
        module: Changed in place.
        field: What to name in errors.
        init_cfg: MMEngine's, of type Pretrained.

    Raises:
        ValueError: If a weight is missing or of another size, or one more is
            there of what the module has.
    """
    path, prefix = init_cfg['checkpoint'], init_cfg.get('prefix') or ''
    weights = CheckpointLoader.load_checkpoint(path, map_location='cpu')
    weights = weights.get('state_dict', weights)
    prefix = f'{prefix.rstrip(".")}.' if prefix else ''
    own = {
        name.removeprefix(prefix): value
        for name, value in weights.items()
        if name.startswith(prefix)
    }
    try:
        missing, unexpected = module.load_state_dict(own, strict=False)
    except RuntimeError as error:
        raise ValueError(f'{field}={dict(init_cfg)}: {error}') from error
    check_arg(
        not missing,
        field,
        dict(init_cfg),
        f'a checkpoint with all weights of {type(module).__name__}: it lacks '
        f'{shorten(missing)}, and has {shorten(list(weights))} (prefix=... if '
        'only the beginning of the names differs)',
    )
    # Heads and mask tokens may be left over, not a part of what there is.
    parts = {name for name, _ in module.named_children()}
    more = [name for name in unexpected if name.split('.')[0] in parts]
    check_arg(
        not more,
        field,
        dict(init_cfg),
        f'a checkpoint of this {type(module).__name__}: it has '
        f'{shorten(more)} as well, so it is of a deeper network, or of one '
        'with other options',
    )
