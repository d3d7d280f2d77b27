"""Did pre-training help on these images? Against what needs none."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import print_log
from mmpretrain.registry import DATASETS
from torch import Tensor

from ..checkpoint.atomic import atomic_write
from ..datasets.folders import check_parts, choose_fraction, split_classes
from ..evaluation.features import build_encoder, extract
from ..evaluation.probes import accuracy, fit_linear
from ..utils.check import check_arg
from .recipes import finetune_config, pretrain_config
from .run import checkpoint_of, run

#: Quantile 0.975 of Student's t for 1, 2, … degrees of freedom; then 1.96.
STUDENT = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)
SCRATCH, SAIM = 'from scratch', 'SAIM on these images'
#: Side in pixels at which raw pixels are compared.
PIXELS = 32


@dataclass
class Comparison:
    """What :func:`compare` has found.

    Attributes:
        accuracy: Method -> share of the labels -> top-1 in per cent on the
            validation part, one for each seed.
        table: Markdown.
        conclusion: In a sentence.
    """

    accuracy: dict[str, dict[float, list[float]]]
    table: str
    conclusion: str


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half of its 95 % interval (Student's t)."""
    number = len(values)
    if number < 2:
        return float(np.mean(values)), math.nan
    quantile = STUDENT[number - 2] if number - 2 < len(STUDENT) else 1.96
    error = np.std(values, ddof=1) / math.sqrt(number)
    return float(np.mean(values)), float(quantile * error)


def compare(
    data: str | Path,
    out: str | Path,
    init: Sequence[str | Path] = (),
    fractions: Sequence[float] = (0.1, 1.0),
    seeds: int = 3,
    epochs: int | None = None,
    pretrain_epochs: int | None = None,
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
            as make the same steps. By default the recipe's.
        pretrain_epochs: Of the pre-training. By default the recipe's.
        options: Any option of both configs.
        say: What is called with a line at each step.

    Raises:
        ValueError: If an argument does not fit, or an image stands in both
            parts.
        FileNotFoundError: If there is no such folder or checkpoint.
    """
    data, out = (Path(x).expanduser().resolve() for x in (data, out))
    check_arg(seeds > 0, 'seeds', seeds, 'a positive number')
    fractions = sorted(set(fractions))
    starts = {Path(x).name: checkpoint_of(x) for x in init}
    check_arg(
        len(starts) == len(init) and not {SCRATCH, SAIM} & set(starts),
        'init',
        [str(x) for x in init],
        'folders of different names',
    )
    train, val, _ = split_classes(data)
    for fraction in fractions:
        choose_fraction(train, fraction)
    check_parts(data, train, val)
    number = (2 + len(starts)) * len(fractions) * seeds
    say(f'{number} trainings, after one pre-training without labels')

    listed = out / 'images.txt'
    text = ''.join(line.rsplit(' ', 1)[0] + '\n' for line in train)
    listed.parent.mkdir(parents=True, exist_ok=True)
    listed.write_text(text)
    cfg, line = pretrain_config(
        data,
        out / 'pretrain',
        epochs=pretrain_epochs,
        options={
            **(options or {}),
            'train_dataloader.dataset.ann_file': str(listed),
        },
    )
    say(line)
    starts = {SCRATCH: None, SAIM: str(run(cfg)), **starts}

    store = Store(out / 'results.json')
    for name, checkpoint in starts.items():
        frozen(store, name, checkpoint, data, out, fractions, seeds)
    done = 0
    for seed in range(seeds):
        for fraction in fractions:
            for name, checkpoint in starts.items():
                done += 1
                key = (f'{name}, fine-tuned', fraction, seed)
                if key not in store:
                    store[key] = train_and_test(
                        data,
                        out / 'finetune' / f'{name}-{fraction:g}-{seed}',
                        init=checkpoint,
                        epochs=more(epochs, train, fraction),
                        options=options,
                        fraction=fraction,
                        seed=seed,
                    )
                say(
                    f'{done} of {number}: {name}, {fraction:.0%} of the '
                    f'labels, seed {seed}: {store[key]:.1f} %'
                )
    return summarise(store.methods(), out)


class Store:
    """Results in a file: (method, share of the labels, seed) -> per cent."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values = {}
        if path.is_file():
            for *key, value in json.loads(path.read_text()):
                self.values[tuple(key)] = value

    def __contains__(self, key: tuple) -> bool:
        return key in self.values

    def __getitem__(self, key: tuple) -> float:
        return self.values[key]

    def __setitem__(self, key: tuple, value: float) -> None:
        self.values[key] = value
        rows = [[*key, value] for key, value in self.values.items()]
        atomic_write(self.path, json.dumps(rows, indent=0).encode())

    def methods(self) -> dict[str, dict[float, list[float]]]:
        found = {}
        for (name, fraction, _), value in sorted(self.values.items()):
            found.setdefault(name, {}).setdefault(fraction, []).append(value)
        return found


def more(epochs: int | None, train: list[str], fraction: float) -> int | None:
    """Epochs of a share of the labels, for about as many steps."""
    if epochs is None:
        return None  # the recipe knows
    number = len(choose_fraction(train, fraction))
    return max(1, round(epochs * len(train) / number))


def train_and_test(data: Path, out: Path, **arguments: Any) -> float:
    """Fine-tune: the accuracy at the end, in per cent."""
    cfg, _ = finetune_config(data, out, **arguments)
    run(cfg)
    found = logged_accuracy(out)
    if found is None:  # it was killed between the last step and its test
        shutil.rmtree(out)
        return train_and_test(data, out, **arguments)
    for path in out.glob('*.pth'):
        path.unlink()
    return found


def logged_accuracy(out: Path) -> float | None:
    """The last one in the logs of a training."""
    rows = [
        json.loads(line)
        for path in sorted(out.glob('*/vis_data/scalars.json'))
        for line in path.read_text().splitlines()
    ]
    values = [row['accuracy/top1'] for row in rows if 'accuracy/top1' in row]
    return values[-1] if values else None


def frozen(
    store: Store,
    name: str,
    checkpoint: str | None,
    data: Path,
    out: Path,
    fractions: Sequence[float],
    seeds: int,
) -> None:
    """A linear layer on what stays as it is; of scratch also on raw pixels."""
    cfg, _ = finetune_config(data, out / 'frozen' / name, checkpoint)
    lines = (out / 'frozen' / name / 'train.txt').read_text().splitlines()
    sets = datasets(cfg)

    def features(seed: int) -> list[tuple[Tensor, Tensor]]:
        model = build_encoder(cfg, checkpoint, seed).to(get_device())
        found = [extract(model, x, tokens=False) for x in sets]
        return [(x.vectors['patch_mean'], x.labels) for x in found]

    if checkpoint is None:
        looks = {
            'random weights, frozen, linear': features,
            'raw pixels, linear': lambda _: [pixels(x) for x in sets],
        }
    else:
        looks = {f'{name}, frozen, linear': features}
    for method, look in looks.items():
        for seed in range(seeds):
            left = [x for x in fractions if (method, x, seed) not in store]
            if not left:
                continue
            (known, labels), (queries, truth) = look(seed)
            for fraction in left:
                chosen = choose_fraction(lines, fraction, seed)
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
    """Images as vectors (N, 3 * 32 * 32), 0 to 1, and labels (N,)."""
    images, labels = [], []
    for item in dataset:
        image = item['inputs'].unsqueeze(0).float() / 255
        images.append(F.interpolate(image, (PIXELS, PIXELS), mode='area'))
        labels.append(item['data_samples'].gt_label)
    return torch.cat(images).flatten(1), torch.cat(labels)


def summarise(
    methods: dict[str, dict[float, list[float]]], out: Path
) -> Comparison:
    """Write table and plot; draw the conclusion."""
    fractions = sorted({x for found in methods.values() for x in found})
    order = sorted(
        methods, key=lambda name: -np.mean(methods[name][fractions[-1]])
    )
    lines = [
        '| top-1, % | '
        + ' | '.join(f'{x:.0%} of the labels' for x in fractions)
        + ' |',
        '| --- ' * (1 + len(fractions)) + '|',
    ]
    for name in order:
        cells = [
            written(*interval(methods[name][fraction]))
            for fraction in fractions
        ]
        lines.append(f'| {name} | {" | ".join(cells)} |')
    conclusion = conclude(methods, fractions)
    table = '\n'.join(lines) + '\n'
    text = f'{table}\nMean ± half of the 95 % interval. {conclusion}\n'
    atomic_write(out / 'compare.md', text.encode())
    draw(methods, order, fractions, out / 'compare.png')
    return Comparison(methods, table, conclusion)


def written(mean: float, half: float) -> str:
    return f'{mean:.1f}' + ('' if math.isnan(half) else f' ± {half:.1f}')


def conclude(
    methods: dict[str, dict[float, list[float]]], fractions: list[float]
) -> str:
    """What can be said of SAIM against training from scratch, seed by seed."""
    parts = []
    for fraction in fractions:
        ours, theirs = (
            methods[f'{name}, fine-tuned'][fraction]
            for name in (SAIM, SCRATCH)
        )
        mean, half = interval(np.subtract(ours, theirs))
        where = f'with {fraction:.0%} of the labels'
        if math.isnan(half):
            verdict = 'one seed decides nothing'
        elif abs(mean) <= half:
            verdict = 'not decided'
        else:
            verdict = 'it helped' if mean > 0 else 'it did harm'
        parts.append(f'{where} {verdict} ({mean:+.1f} ± {half:.1f} points)')
    text = f'Pre-training on these images: {"; ".join(parts)}.'
    best = max(methods, key=lambda name: np.mean(methods[name][fractions[-1]]))
    if 'fine-tuned' not in best:
        text += f' Nothing that was fine-tuned is better than {best}.'
    return text.replace(' ± nan', '')


def draw(
    methods: dict[str, dict[float, list[float]]],
    order: list[str],
    fractions: list[float],
    path: Path,
) -> None:
    """Accuracy against the share of the labels."""
    figure = Figure(figsize=(8, 4.5), layout='constrained')
    axis = figure.subplots()
    for name in order:
        means, halves = zip(*(interval(methods[name][x]) for x in fractions))
        axis.errorbar(
            [100 * x for x in fractions],
            means,
            np.nan_to_num(halves),
            capsize=3,
            linestyle='-' if 'fine-tuned' in name else '--',
            marker='o',
            label=name,
        )
    axis.set_xscale('log')
    ticks = [100 * x for x in fractions]
    axis.set_xticks(ticks, [f'{x:g} %' for x in ticks])
    axis.minorticks_off()
    axis.set(xlabel='share of the labels', ylabel='top-1, %')
    axis.grid(alpha=0.3)
    figure.legend(loc='outside right upper')
    figure.savefig(path, dpi=120)
