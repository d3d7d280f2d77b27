"""Nearest neighbours in feature space: no training."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.evaluator import Evaluator
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..checkpoint.weights import load_backbone_weights
from ..models.vit_state_dict import configs_of, is_pretrained
from ..utils.check import check_arg
from ..utils.seed import temp_seed
from .features import backbone_outputs, check_finite, num_extra_tokens
from .readouts import FIXED, build_readout


def vote(
    queries: Tensor,
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    k: int = 20,
    temperature: float = 0.07,
    leave_one_out: bool = False,
    chunk: int = 1024,
) -> Tensor:
    """Let the nearest neighbours vote, as in DINO's evaluation.

    A neighbour votes for its class with the weight exp(similarity /
    temperature), by the cosine of the features.

    Args:
        queries: (Q, C).
        features: (N, C), of the neighbours.
        labels: (N,), long.
        num_classes: Number of classes.
        k: Neighbours that vote.
        temperature: Positive.
        leave_one_out: Whether query i is neighbour i, which has no vote for
            itself.
        chunk: Queries at a time.

    Returns:
        The shares of the votes, (Q, num_classes).

    Raises:
        ValueError: If there are fewer than k neighbours, or the temperature is
            not positive.
    """
    largest = len(features) - leave_one_out
    check_arg(
        isinstance(k, int) and 0 < k <= largest,
        'k',
        k,
        f'1 to {largest}, the training images',
    )
    check_arg(
        math.isfinite(temperature) and temperature > 0,
        'temperature',
        temperature,
        'positive',
    )
    labels = labels.to(features.device)
    queries, features = (
        F.normalize(x.float(), dim=1) for x in (queries, features)
    )
    scores = []
    for start in range(0, len(queries), chunk):
        similarity = queries[start : start + chunk] @ features.T
        if leave_one_out:
            similarity.diagonal(start).fill_(-torch.inf)
        similarity, index = similarity.topk(k, dim=1)
        # (Divided by the largest weight, so that none is infinite.)
        weights = ((similarity - similarity[:, :1]) / temperature).exp()
        votes = weights.new_zeros(len(weights), num_classes)
        scores.append(votes.scatter_add_(1, labels[index], weights))
    votes = torch.cat(scores)
    return votes / votes.sum(dim=1, keepdim=True)


@torch.no_grad()
def extract(
    model: nn.Module, loader: DataLoader, readout: nn.Module | None
) -> tuple[Tensor, Tensor]:
    """Features (N, C) and labels (N,) of a dataset, by a classifier."""
    features, labels = [], []
    for batch in loader:
        data = model.data_preprocessor(batch)
        if readout is None:
            output = model.extract_feat(data['inputs'], stage='neck')
        else:
            output = readout(
                backbone_outputs(
                    model.backbone, data['inputs'], readout.num_blocks
                )
            )
        output = output[-1] if isinstance(output, (tuple, list)) else output
        features.append(output.float().flatten(1))
        labels += [sample.gt_label for sample in data['data_samples']]
    return torch.cat(features), torch.cat(labels).to(features[0].device)


def evaluate(
    cfg: Config,
    checkpoint: str | None = None,
    k: int = 20,
    temperature: float = 0.07,
    readout: str | dict | None = None,
    device: str | None = None,
) -> tuple[dict[str, float], int, int]:
    """Evaluate a classification config's backbone by nearest neighbours.

    Those of its training set vote for its test set, both through the test
    pipeline.

    Args:
        cfg: The config. Changed in place.
        checkpoint: A classifier's. Defaults to None, then the backbone's
            ``init_cfg`` names the pre-training's.
        k: Neighbours.
        temperature: Of the votes.
        readout: As for :func:`build_readout`. Defaults to None: what the
            config's neck gives.
        device: Defaults to None, the best there is.

    Returns:
        Metrics of the config's test evaluator, the number of
        neighbours, the number of test images.

    Raises:
        ValueError: If the config is not of classification, there are fewer
            than k neighbours, ``readout`` is None for a neck whose weights are
            not loaded, features are not finite, or a data set is one of data
            sets.
    """
    for field in ('train_dataloader', 'test_dataloader', 'test_evaluator'):
        check_arg(
            cfg.get(field) is not None,
            field,
            None,
            'given, as in a config of classification; tools/probe.py takes '
            'those of pre-training, with --train and --val for the images',
        )
    device = device or get_device()
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    cfg.model.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
    model = MODELS.build(cfg.model)
    neck = getattr(model, 'neck', None)
    # By init_cfg of the whole model the neck is loaded too.
    all_loaded = not checkpoint and any(
        is_pretrained(config) for config in configs_of(model.init_cfg)
    )
    check_arg(
        readout is not None
        or all_loaded
        or not isinstance(neck, nn.Module)
        or not any(True for _ in neck.parameters()),
        'readout',
        readout,
        f"one of {list(FIXED)}: the config's neck has weights of its own, "
        'and only those of the backbone are loaded',
    )
    if checkpoint:
        model.backbone.init_cfg = None
        load_backbone_weights(model.backbone, checkpoint)
    else:
        with temp_seed((0,)):  # of what is random
            model.init_weights()
    model.to(device).eval()
    if readout is not None:
        extra = num_extra_tokens(model.backbone)
        readout = build_readout(readout, extra).to(device)

    # The neighbours are seen as the queries are: no augmentation.
    train, test = cfg.train_dataloader, cfg.test_dataloader
    for name, loader in (('train', train), ('test', test)):
        check_arg(
            'pipeline' in loader.dataset,
            f'{name}_dataloader.dataset.type',
            loader.dataset.type,
            'one with a pipeline of its own, not of other data sets',
        )
    train.dataset.pipeline = test.dataset.pipeline
    train.update(
        batch_size=test.batch_size, drop_last=False, sampler=test.sampler
    )
    loaders = [Runner.build_dataloader(loader) for loader in (train, test)]
    size = len(loaders[0].dataset)
    # Before the images are read.
    check_arg(0 < k <= size, 'k', k, f'1 to {size}, the training images')
    features, labels = extract(model, loaders[0], readout)
    queries, truth = extract(model, loaders[1], readout)
    for name, found in (('training', features), ('test', queries)):
        check_finite(found, f'{name} images')
    classes = int(max(labels.max(), truth.max())) + 1
    scores = vote(queries, features, labels, classes, k, temperature)

    evaluator = Evaluator(cfg.test_evaluator)
    evaluator.process(
        [
            DataSample().set_pred_score(score).set_gt_label(label).to_dict()
            for score, label in zip(scores.cpu(), truth.cpu())
        ]
    )
    return evaluator.evaluate(len(truth)), len(labels), len(truth)
