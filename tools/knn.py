"""Classify by the nearest neighbours in feature space: no training.

    python tools/knn.py CONFIG [CHECKPOINT] [--k 20] [--temperature 0.07]
        [--stage neck] [--device cuda] [--cfg-options KEY=VALUE ...]

CONFIG is a classification config of mmpretrain: its backbone is evaluated, on
the images of its test set, with those of its training set as neighbours (both
through the test pipeline). CHECKPOINT, of which the backbone is loaded, is a
classifier's or of pre-training, of any format; or it is left out: the
backbone's init_cfg then names the pre-training's. A neighbour votes for its
class with the weight exp(similarity / temperature), by the cosine of the
features, as in DINO's evaluation.
"""

import argparse

import torch
import torch.nn.functional as F
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.evaluator import Evaluator
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

from saim_mm.checkpoint.weights import load_backbone_weights


@torch.no_grad()
def extract(model, loader, stage):
    """Normalised features (N, C) and labels (N,) of a dataset."""
    features, labels = [], []
    for batch in loader:
        data = model.data_preprocessor(batch)
        output = model.extract_feat(data['inputs'], stage=stage)
        output = output[-1] if isinstance(output, (tuple, list)) else output
        features.append(F.normalize(output.float().flatten(1), dim=1))
        labels += [sample.gt_label for sample in data['data_samples']]
    return torch.cat(features), torch.cat(labels).to(features[0].device)


def vote(queries, features, labels, classes, k, temperature, chunk=1024):
    """Scores of the classes, (N, classes)."""
    scores = []
    for part in queries.split(chunk):
        similarity, index = (part @ features.T).topk(k, dim=1)
        weights = (similarity / temperature).exp()
        votes = weights.new_zeros(len(part), classes)
        scores.append(votes.scatter_add_(1, labels[index], weights))
    scores = torch.cat(scores)
    return scores / scores.sum(dim=1, keepdim=True)


def evaluate(
    cfg,
    checkpoint=None,
    k=20,
    temperature=0.07,
    stage='neck',
    device=None,
):
    """Metrics of a config's test set, and the sizes of both sets.

    Returns ({name: value}, neighbours, images). Raises ValueError if there are
    fewer than k neighbours.
    """
    device = device or get_device()
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    cfg.model.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
    model = MODELS.build(cfg.model)
    if checkpoint:
        model.backbone.init_cfg = None
        load_backbone_weights(model.backbone, checkpoint)
    else:
        model.init_weights()
    model.to(device).eval()

    # The neighbours are seen as the queries are: no augmentation.
    train, test = cfg.train_dataloader, cfg.test_dataloader
    train.dataset.pipeline = test.dataset.pipeline
    train.update(
        batch_size=test.batch_size, drop_last=False, sampler=test.sampler
    )
    loaders = [Runner.build_dataloader(loader) for loader in (train, test)]
    size = len(loaders[0].dataset)
    if not 0 < k <= size:
        raise ValueError(f'k={k}: must be 1 to {size}, the training images')
    features, labels = extract(model, loaders[0], stage)
    queries, truth = extract(model, loaders[1], stage)
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


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config')
    parser.add_argument('checkpoint', nargs='?')
    parser.add_argument('--k', type=int, default=20)
    parser.add_argument('--temperature', type=float, default=0.07)
    parser.add_argument('--stage', default='neck')
    parser.add_argument('--device', default=get_device())
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    args = parser.parse_args()

    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options or {})
    results, neighbours, images = evaluate(
        cfg,
        args.checkpoint,
        args.k,
        args.temperature,
        args.stage,
        args.device,
    )
    for name, value in results.items():
        print(
            f'{args.k}-NN, {neighbours} neighbours, {images} images: '
            f'{name} {value:.2f}'
        )


if __name__ == '__main__':
    main()
