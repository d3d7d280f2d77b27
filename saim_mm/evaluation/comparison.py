"""What a comparison of starts says: table, intervals, plot, conclusion."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ..checkpoint.atomic import atomic_write

#: Quantile 0.975 of Student's t for 1, 2, … degrees of freedom.
STUDENT = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)
SCRATCH, SAIM = 'from scratch', 'SAIM on these images'
RANDOM, PIXELS = 'random weights, frozen, linear', 'raw pixels, linear'


@dataclass
class Comparison:
    """What :func:`~saim_mm.compare` has found.

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
    df = len(values) - 1
    if df < 1:
        return float(np.mean(values)), math.nan
    if df <= len(STUDENT):
        quantile = STUDENT[df - 1]
    else:  # Cornish and Fisher's expansion about the normal distribution's
        z = 1.96
        quantile = z + (z**3 + z) / (4 * df)
        quantile += (5 * z**5 + 16 * z**3 + 3 * z) / (96 * df**2)
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    return float(np.mean(values)), float(quantile * error)


def summarize(
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
    text = (
        f'{table}\nMean ± half of the 95 % interval over labels and seeds, of '
        f'one pre-training and one validation part. {conclusion}\n'
    )
    atomic_write(out / 'compare.md', text.encode())
    draw(methods, order, fractions, out / 'compare.png')
    return Comparison(methods, table, conclusion)


def written(mean: float, half: float) -> str:
    """A cell; where nothing differs by seed there is no interval."""
    return f'{mean:.1f}' + (f' ± {half:.1f}' if half > 0 else '')


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
    for number, name in enumerate(order):
        means, halves = zip(*(interval(methods[name][x]) for x in fractions))
        # Beside each other, so that no interval hides another.
        aside = 0.1 * (number - (len(order) - 1) / 2)
        axis.errorbar(
            np.arange(len(fractions)) + aside,
            means,
            np.nan_to_num(halves),
            capsize=3,
            linestyle='-' if 'fine-tuned' in name else '--',
            marker='o',
            label=name,
        )
    axis.set_xticks(
        range(len(fractions)), [f'{100 * x:g} %' for x in fractions]
    )
    axis.set_xlim(-0.5, len(fractions) - 0.5)
    axis.set(xlabel='share of the labels', ylabel='top-1, %')
    axis.grid(axis='y', alpha=0.3)
    figure.legend(loc='outside right upper')
    figure.savefig(path, dpi=120)
