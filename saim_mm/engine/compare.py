"""Did pre-training help on these images? Against what needs none."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import print_log
from mmpretrain.registry import DATASETS
from torch import Tensor

from ..checkpoint.atomic import atomic_write
from ..datasets.folders import check_parts, choose_fraction, split_classes
from ..datasets.pixels import pixel_format
from ..evaluation.comparison import (
    PIXELS,
    RANDOM,
    SAIM,
    SCRATCH,
    Comparison,
    summarize,
)
from ..evaluation.features import build_encoder, extract
from ..evaluation.probes import accuracy, fit_linear
from ..utils.check import check_arg, check_positive_int
from .checks.config import check_config
from .recipes import finetune_config, pretrain_config
from .run import (
    IMAGES,
    MAY_DIFFER,
    checkpoint_of,
    config_of,
    differences,
    run,
    training_of,
    write_list,
)

#: Side in pixels at which raw pixels are compared.
SIDE = 32


def compare(
    data: str | Path,
    out: str | Path,
    init: Sequence[str | Path] = (),
    fractions: Sequence[float] = (0.1, 1.0),
    seeds: int = 3,
    epochs: int | None = None,
    pretrain_epochs: int | None = None,
    arch: str | None = None,
    size: int | None = None,
    patch: int | None = None,
    channels: int | None = None,
    options: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = print_log,
) -> Comparison:
    """Compare starts of a classifier on folders of classes.

    From scratch, from SAIM's pre-training on the training part without its
    labels, and from other trainings: fine-tuned alike, at shares of the
    labels; and frozen under a linear layer, beside random weights and raw
    pixels. What is there in ``out`` is not done again.

    Args:
        data: As for :func:`~saim_mm.finetune`.
        out: The folder of all trainings; ``compare.md``, ``compare.png`` and
            ``results.json`` are written to it.
        init: Further starts: folders that ``saim pretrain`` wrote.
        fractions: Shares of the labels.
        seeds: How many times each, with other labels and other numbers.
        epochs: Of fine-tuning with all labels; with fewer labels as many more
            as show the same number of images. By default the recipe's.
        pretrain_epochs: Of the pre-training. By default the recipe's.
        arch, size, patch, channels: As for :func:`~saim_mm.pretrain`.
        options: Any option that both configs have.
        say: What is called with a line at each step.

    Raises:
        ValueError: If an argument does not fit, an image stands in both
            parts, or ``out`` is of other settings.
        FileNotFoundError: If there is no such folder or checkpoint.
    """
    data, out = (Path(x).expanduser().resolve() for x in (data, out))
    check_positive_int('seeds', seeds)
    check_arg(len(fractions) > 0, 'fractions', fractions, 'one at least')
    for name, value in (
        ('epochs', epochs),
        ('pretrain_epochs', pretrain_epochs),
    ):
        if value is not None:
            check_positive_int(name, value)
    check_arg(
        not out.is_relative_to(data), 'out', str(out), f'outside of {data}'
    )
    fractions = sorted(set(fractions))
    given = {Path(x).expanduser().resolve().name: x for x in init}
    check_arg(
        len(given) == len(init) and not {SCRATCH, SAIM} & set(given),
        'init',
        [str(x) for x in init],
        'folders of different names',
    )
    known = {name: training_of(x)[1] for name, x in given.items()}
    classes = split_classes(data)
    train, val = classes.train, classes.val
    for line in classes.skipped:
        say(line)
    for fraction in fractions:
        choose_fraction(train, fraction)
    check_parts(data, train, val)

    images = [x.rsplit(' ', 1)[0] for x in train]
    cfg, line = pretrain_config(
        data,
        out / 'pretrain',
        arch=arch,
        size=size,
        patch=patch,
        channels=channels,
        epochs=pretrain_epochs,
        options={
            **(options or {}),
            'train_dataloader.dataset.ann_file': str(out / IMAGES),
        },
        images=images,
    )
    backbone = {**cfg.model.backbone, 'init_cfg': None}
    common = dict(
        epochs=epochs,
        backbone=backbone,
        pixels=pixel_format(cfg),
        options=options,
    )
    with tempfile.TemporaryDirectory() as nowhere:
        tried, _ = finetune_config(data, nowhere, **common)
        check_config(tried)  # rather than after the pre-training
    settings = dict(data=str(data), epochs=epochs, options=options or {})
    store = Store(out, settings, known)
    number = (2 + len(given)) * len(fractions) * seeds
    say(f'{line}; then {number} trainings')
    new = not (out / IMAGES).exists()
    write_list(out / IMAGES, images)
    try:
        run(cfg)
    except BaseException:
        if new and config_of(out / 'pretrain') is None:
            (out / IMAGES).unlink()  # of nothing that has begun
        raise
    starts = {SCRATCH: None, SAIM: out / 'pretrain', **given}
    for name, start in starts.items():
        folder = out / 'frozen' / name
        tried, _ = finetune_config(data, folder, start, **common)
        checkpoint = start and checkpoint_of(start)
        frozen(store, name, checkpoint, tried, train, fractions, seeds)

    keys = [
        (name, fraction, seed)
        for seed in range(seeds)
        for fraction in fractions
        for name in starts
    ]
    for done, (name, fraction, seed) in enumerate(keys, 1):
        key = (f'{name}, fine-tuned', fraction, seed)
        folder = out / 'finetune' / f'{name}-{fraction:g}-{seed}'
        if key not in store:
            arguments = dict(common, fraction=fraction, seed=seed)
            if epochs is not None:
                chosen = len(choose_fraction(train, fraction))
                arguments['epochs'] = round(epochs * len(train) / chosen)
            store[key] = train_and_test(data, folder, starts[name], arguments)
        for path in folder.glob('*.pth'):
            path.unlink()
        say(
            f'{done} of {number}: {name}, {fraction:.0%} of the labels, seed '
            f'{seed}: {store[key]:.1f} %'
        )
    return summarize(store.methods(starts, fractions, seeds), out)


def counted(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings, without the options that no result depends on."""
    options = {
        key: value
        for key, value in settings['options'].items()
        if not MAY_DIFFER.match(f'{key}=')
    }
    return {**settings, 'options': options}


class Store:
    """Results in a file: (method, share of the labels, seed) -> per cent.

    Args:
        out: Its folder.
        settings: What they follow from.
        starts: Further starts of this time, name -> checkpoint.

    Raises:
        ValueError: If there are results of other settings.
    """

    def __init__(
        self, out: Path, settings: dict[str, Any], starts: dict[str, str]
    ) -> None:
        self.path = out / 'results.json'
        # As they come out of the file.
        self.settings = json.loads(
            json.dumps({**settings, 'starts': starts}, default=str)
        )
        self.values: dict[tuple, float] = {}
        if self.path.is_file():
            found = json.loads(self.path.read_text())
            known = found['settings']['starts']
            same = {
                name: starts.get(name, path) for name, path in known.items()
            }
            changed = differences(
                counted(found['settings']),
                counted({**self.settings, 'starts': same}),
            )
            self.settings['starts'] = {**known, **starts}
            check_arg(
                not changed,
                'out',
                str(out),
                'another folder, or an empty one: it holds a comparison with '
                f'other settings ({", ".join(changed[:3])})',
            )
            self.values = {tuple(k): value for *k, value in found['results']}

    def __contains__(self, key: tuple) -> bool:
        return key in self.values

    def __getitem__(self, key: tuple) -> float:
        return self.values[key]

    def __setitem__(self, key: tuple, value: float) -> None:
        self.values[key] = value
        rows = [[*key, value] for key, value in self.values.items()]
        found = dict(settings=self.settings, results=rows)
        atomic_write(self.path, json.dumps(found, indent=0).encode())

    def methods(
        self, starts: Sequence[str], fractions: Sequence[float], seeds: int
    ) -> dict[str, dict[float, list[float]]]:
        """Those that were asked for: there may be more."""
        names = [RANDOM, PIXELS]
        names += [f'{x}, frozen, linear' for x in starts if x != SCRATCH]
        names += [f'{x}, fine-tuned' for x in starts]
        return {
            name: {
                fraction: [self[name, fraction, seed] for seed in range(seeds)]
                for fraction in fractions
            }
            for name in names
        }


def train_and_test(
    data: Path,
    out: Path,
    init: str | Path | None,
    arguments: dict[str, Any],
) -> float:
    """Fine-tune: the accuracy at the end, in per cent."""
    cfg, _ = finetune_config(data, out, init, **arguments)
    run(cfg)
    found = logged_accuracy(out, cfg.train_cfg.max_epochs)
    if found is None:  # it was killed between the last step and its test
        shutil.rmtree(out)
        finetune_config(data, out, init, **arguments)  # writes the lists
        run(cfg)
        found = logged_accuracy(out, cfg.train_cfg.max_epochs)
    return found


def logged_accuracy(out: Path, epoch: int) -> float | None:
    """That after an epoch, in the logs of a training."""
    rows = [
        json.loads(line)
        for path in sorted(out.glob('*/vis_data/scalars.json'))
        for line in path.read_text().splitlines()
    ]
    values = [
        row['accuracy/top1']
        for row in rows
        if 'accuracy/top1' in row and row['step'] == epoch
    ]
    return values[-1] if values else None


def frozen(
    store: Store,
    name: str,
    checkpoint: str | None,
    cfg: Config,
    train: list[str],
    fractions: Sequence[float],
    seeds: int,
) -> None:
    """A linear layer on what stays as it is; of scratch also on raw pixels."""
    sets = datasets(cfg)

    def features(seed: int) -> list[tuple[Tensor, Tensor]]:
        model = build_encoder(cfg, checkpoint, seed).to(get_device())
        found = [extract(model, x, tokens=False) for x in sets]
        return [(x.vectors['patch_mean'].cpu(), x.labels) for x in found]

    looks = {f'{name}, frozen, linear': features}
    if checkpoint is None:
        looks = {RANDOM: features, PIXELS: lambda _: map(pixels, sets)}
    for method, look in looks.items():
        parts = None
        for seed in range(seeds):
            left = [x for x in fractions if (method, x, seed) not in store]
            if not left:
                continue
            if parts is None or method == RANDOM:
                parts = list(look(seed))
            (known, labels), (queries, truth) = parts
            for fraction in left:
                chosen = choose_fraction(train, fraction, seed)
                store[method, fraction, seed] = accuracy(
                    fit_linear(
                        known[chosen], labels[chosen], int(labels.max()) + 1
                    ),
                    queries,
                    truth,
                )


def datasets(cfg: Config) -> list:
    """Training and validation images, both seen as in validation."""
    val = cfg.val_dataloader.dataset
    train = {**cfg.train_dataloader.dataset, 'pipeline': val.pipeline}
    return [DATASETS.build(dataset) for dataset in (train, val)]


def pixels(dataset) -> tuple[Tensor, Tensor]:
    """Images as vectors (N, C * 32 * 32), of RGB 0 to 1, and labels (N,)."""
    images, labels = [], []
    for item in dataset:
        image = item['inputs'].unsqueeze(0).float() / 255
        images.append(F.interpolate(image, (SIDE, SIDE), mode='area'))
        labels.append(item['data_samples'].gt_label)
    return torch.cat(images).flatten(1), torch.cat(labels)
