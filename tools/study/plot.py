"""Accuracy against what pre-training costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from table import Row

COSTS = (
    ('petaflops', 'PFLOP of pre-training'),
    ('hours', 'hours of pre-training'),
)


def plot(rows: list[Row], path: Path) -> None:
    """Draw the first two columns of a table.

    Args:
        rows (list[Row]): Of tools/study/table.py.
        path (Path): Of the picture.
    """
    from table import HEADINGS

    measures = list(rows[0].accuracy)[:2]
    figure = Figure(figsize=(11, 8), layout='constrained')
    axes = figure.subplots(
        len(measures), 2, sharex='col', sharey='row', squeeze=False
    )
    for axis, (_, label) in zip(axes[-1], COSTS):
        axis.set_xlabel(label)
        axis.locator_params(axis='x', nbins=5)
    for line, measure in zip(axes, measures):
        line[0].set_ylabel(f'{HEADINGS.get(measure, measure)}, %')
        for axis, (cost, _) in zip(line, COSTS):
            axis.grid(alpha=0.3)
            for number, row in enumerate(rows):
                values = row.accuracy[measure]
                if not values:
                    continue
                mean = np.mean(values)
                error = np.std(values, ddof=1) if len(values) > 1 else 0
                if row.petaflops == 0:  # from scratch
                    axis.axhline(mean, color='grey', ls='--', label=row.name)
                    continue
                axis.errorbar(
                    getattr(row, cost),
                    mean,
                    error,
                    color=f'C{number % 10}',
                    fmt='osD^v'[number // 10 % 5],
                    label=row.name,
                )
    # The rows' order: the best first.
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc='outside right upper'
    )
    figure.savefig(path, dpi=110)
