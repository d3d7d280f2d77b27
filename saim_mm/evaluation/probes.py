"""What can be read out of a frozen encoder, from features computed once.

Seconds instead of the hours of a config: all labels, no augmentation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.model import Sequential
from mmpretrain.models import ClsBatchNormNeck, LinearClsHead
from mmpretrain.models.utils import to_2tuple
from torch import Tensor, nn
from torch.nn.utils import skip_init

from ..datasets.pixels import pixel_format
from ..utils.check import check_arg, check_choice, check_positive_int
from ..utils.seed import temp_seed
from .features import (
    Features,
    build_encoder,
    check_finite,
    extract,
    image_folder,
)
from .knn import vote
from .rank import rank_me
from .readouts import AttentivePooling, EfficientProbing, LearnedReadout

#: Key of the results -> what it is.
PROBES = ('linear', 'attentive', 'efficient', 'knn', 'rank_me')
#: Of readouts that learn, but for their queries.
LR = 1e-2


def fit_linear(
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    weight_decay: float = 1e-4,
    max_iter: int = 200,
) -> nn.Linear:
    """Logistic regression on standardised features, to the optimum.

    The problem is convex, so L-BFGS on all images at once needs no learning
    rate and no seed, and takes seconds where SGD takes epochs.

    Args:
        features: (N, C).
        labels: (N,), long.
        num_classes: Number of classes.
        weight_decay: Of weights of standardised features: half of it times
            their squared norm is added to the mean loss. Defaults to 1e-4.

    Returns:
        Of the features as they are.
    """
    mean, std = features.mean(dim=0), features.std(dim=0) + 1e-6
    inputs = (features - mean) / std
    weight = inputs.new_zeros(num_classes, inputs.shape[1], requires_grad=True)
    bias = inputs.new_zeros(num_classes, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=max_iter,
        tolerance_grad=1e-6,
        tolerance_change=1e-9,
        line_search_fn='strong_wolfe',
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = weight_decay / 2 * weight.square().sum()
        loss = loss + F.cross_entropy(inputs @ weight.T + bias, labels)
        loss.backward()
        return loss

    optimizer.step(closure)
    linear = skip_init(nn.Linear, inputs.shape[1], num_classes).to(inputs)
    with torch.no_grad():
        linear.weight.copy_(weight / std)
        linear.bias.copy_(bias - linear.weight @ mean)
    return linear


def fit_readout(
    readout: LearnedReadout,
    tokens: Tensor,
    labels: Tensor,
    num_classes: int,
    epochs: int = 10,
    batch_size: int = 256,
    seed: int = 0,
    device: str | torch.device = 'cpu',
) -> Sequential:
    """Train a readout, BatchNorm and a linear layer: the parts of the configs.

    With AdamW, :data:`LR`, a cosine and at most a tenth of warm-up. The
    queries, which start at a fiftieth of the tokens' size, have ten times the
    rate.

    Args:
        readout: The readout. Changed in place.
        tokens: (N, T, C), of any precision.
        labels: (N,), long.
        num_classes: Number of classes.
        seed: Of the linear layer and the order of images.
        device: Where to train; the tokens stay where they are.

    Returns:
        (B, T, C) -> (B, num_classes), in evaluation mode.
    """
    with temp_seed((seed, 1)):
        probe = (
            Sequential(
                readout,
                ClsBatchNormNeck(readout.embed_dims),
                LinearClsHead(num_classes, readout.embed_dims),
            )
            .to(device)
            .train()
        )
        rest = [p for p in probe.parameters() if p is not readout.query]
        optimizer = torch.optim.AdamW(
            [dict(params=[readout.query], lr=10 * LR), dict(params=rest)],
            lr=LR,
            weight_decay=0.0,
        )
        check_positive_int('epochs', epochs)
        # BatchNorm has nothing to learn from an image alone.
        number = len(tokens) - (len(tokens) % batch_size == 1)
        steps = epochs * math.ceil(number / batch_size)
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda step: min(
                10 * (step + 1) / steps,
                (1 + math.cos(math.pi * step / steps)) / 2,
            ),
        )
        for _ in range(epochs):
            for index in torch.randperm(len(tokens))[:number].split(
                batch_size
            ):
                logits = probe(tokens[index].to(device).float())
                loss = F.cross_entropy(logits, labels[index].to(device))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                scheduler.step()
    return probe.eval()


@torch.no_grad()
def accuracy(probe: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """Top-1 of a probe, in per cent."""
    device = next(probe.parameters()).device
    right = [
        probe(part.to(device).float()).argmax(dim=1) == truth.to(device)
        for part, truth in zip(inputs.split(1024), labels.split(1024))
    ]
    return 100 * torch.cat(right).double().mean().item()


def evaluate(
    train: Features,
    val: Features,
    num_heads: int = 1,
    k: int = 20,
    epochs: int = 10,
    seed: int = 0,
    probes: Sequence[str] = PROBES,
    device: str | torch.device = 'cpu',
) -> dict[str, float]:
    """Read a frozen encoder out in every way.

    Args:
        train: With labels; with tokens for the probes that attend.
        val: The same of other images.
        num_heads: Of attentive pooling: those of the encoder.
        k: Nearest neighbours.
        epochs: Of the probes that attend.
        seed: Of these.
        probes: Which of :data:`PROBES`. Defaults to all.
        device: Where to do so.

    Returns:
        Top-1 in per cent by ``linear/READOUT``,
        ``knn/READOUT``, ``attentive`` and ``efficient``; ``rank_me/READOUT``
        of the training images. READOUT is ``cls_token``, if there is one, and
        ``patch_mean``.

    Raises:
        ValueError: If a probe does not exist, there are no labels, of two
            classes at least, or no tokens, or features are not finite.
    """
    for name in probes:
        check_choice('probes', name, PROBES)
    for field, features in (('train', train), ('val', val)):
        check_arg(
            features.labels is not None, f'{field}.labels', None, 'given'
        )
    num_classes = int(train.labels.max()) + 1
    check_arg(
        num_classes > 1,
        'train.labels',
        set(train.labels.tolist()),
        'of two classes at least',
    )
    check_arg(
        int(val.labels.max()) < num_classes,
        'val.labels',
        int(val.labels.max()),
        f'of the {num_classes} classes of train',
    )
    for field, features in (('train', train), ('val', val)):
        for vectors in features.vectors.values():
            check_finite(vectors, field)
    labels, truth = (x.labels.to(device) for x in (train, val))
    results = {}
    for name in train.vectors:
        vectors, others = (x.vectors[name].to(device) for x in (train, val))
        if 'linear' in probes:
            linear = fit_linear(vectors, labels, num_classes)
            results[f'linear/{name}'] = accuracy(linear, others, truth)
        if 'knn' in probes:
            votes = vote(others, vectors, labels, num_classes, k)
            right = votes.argmax(dim=1) == truth
            results[f'knn/{name}'] = 100 * right.double().mean().item()
        if 'rank_me' in probes:
            results[f'rank_me/{name}'] = rank_me(vectors)
    for name in ('attentive', 'efficient'):
        if name not in probes:
            continue
        check_arg(train.tokens is not None, 'train.tokens', None, 'kept')
        size = train.tokens.shape[-1]
        extra = dict(num_extra_tokens=train.num_extra_tokens)
        with temp_seed((seed, 0)):
            if name == 'attentive':
                readout = AttentivePooling(size, num_heads, **extra)
            else:
                most = max(m for m in range(1, 33) if size % m == 0)
                readout = EfficientProbing(size, most, **extra)
        probe = fit_readout(
            readout,
            train.tokens,
            train.labels,
            num_classes,
            epochs=epochs,
            seed=seed,
            device=device,
        )
        results[name] = accuracy(probe, val.tokens, val.labels)
    return results


def size_and_heads(backbone: nn.Module) -> tuple[tuple[int, int], int]:
    """Of a backbone of mmpretrain, or timm's in ``TIMMBackbone``.

    Returns:
        (height, width) of its images, 224 if it does not say; the heads of
        attention in its last block, 1 if it does not say.
    """
    timm = getattr(backbone, 'timm_model', None)
    if timm is not None:
        patches = getattr(timm, 'patch_embed', None)
        size = getattr(patches, 'img_size', None) or 224
        blocks = getattr(timm, 'blocks', None) or [None]
        attention = getattr(blocks[-1], 'attn', None)
        return to_2tuple(size), getattr(attention, 'num_heads', 1)
    size = getattr(backbone, 'img_size', 224)
    settings = getattr(backbone, 'arch_settings', {})
    heads = settings.get('num_heads', 1) if isinstance(settings, dict) else 1
    if isinstance(heads, (list, tuple)):
        heads = heads[-1]
    return to_2tuple(size), heads


def evaluate_folders(
    cfg: Config,
    checkpoint: str | Path | None,
    train: str | Path,
    val: str | Path,
    probes: Sequence[str] = PROBES,
    num_blocks: int = 1,
    k: int = 20,
    epochs: int = 10,
    seed: int = 0,
    batch_size: int = 64,
    num_workers: int = 0,
    device: str = 'cpu',
) -> dict[str, float]:
    """Read the encoder of a checkpoint out on two folders of classes.

    Args:
        cfg: Of pre-training or classification.
        checkpoint: None: random weights.
        train: Folder with a sub-folder for each class.
        val: The same, with the same classes.
        probes: As for :func:`evaluate`. Defaults to all.
        num_blocks: The mean of the last this many blocks is read.
        k: Nearest neighbours.
        epochs: Of the probes that attend.
        seed: Of these, and of random weights.
        batch_size: Images at a time.
        num_workers: Loading processes.
        device: Where to do so.

    Returns:
        dict[str, float]: As :func:`evaluate`.

    Raises:
        FileNotFoundError: If a folder or the checkpoint is not there.
        ValueError: If the folders differ in their classes, or the checkpoint
            is of another encoder.
    """
    model = build_encoder(cfg, checkpoint, seed).to(device)
    backbone = model.backbone
    size, heads = size_and_heads(backbone)
    folders = [
        image_folder(folder, size, field, pixels=pixel_format(cfg))
        for field, folder in (('train', train), ('val', val))
    ]
    classes = [folder.CLASSES for folder in folders]
    check_arg(
        classes[0] == classes[1],
        'val',
        str(val),
        f'a folder of the same classes as train: {list(classes[0])[:10]}, '
        f'not {list(classes[1])[:10]}',
    )
    features = [
        extract(
            model,
            folder,
            tokens=bool({'attentive', 'efficient'} & set(probes)),
            num_blocks=num_blocks,
            batch_size=batch_size,
            num_workers=num_workers,
        )
        for folder in folders
    ]
    return evaluate(*features, heads, k, epochs, seed, probes, device)
