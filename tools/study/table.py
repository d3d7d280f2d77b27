"""Write table and plot of a study anew.

    python tools/study/table.py [WORK_DIR] [--against NAME]

WORK_DIR (default: work_dirs/study) is that of tools/study/run.py; table.md and
study.png are written into it: mean and deviation over seeds, and accuracy
against FLOPs and hours of pre-training. --against prints what each method has
more than NAME: the mean of the differences seed by seed, and its standard
error.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

#: Column -> heading; any other column is its own heading.
HEADINGS = {
    'finetune10': 'fine-tuned, 10 %',
    'finetune': 'fine-tuned',
    'linear/cls_token': 'linear, class token',
    'linear/patch_mean': 'linear, patch mean',
    'attentive': 'attentive',
    'efficient': 'efficient',
    'knn/cls_token': '20-NN, class token',
    'knn/patch_mean': '20-NN, patch mean',
    'rank_me/cls_token': 'RankMe, class token',
    'rank_me/patch_mean': 'RankMe, patch mean',
}


@dataclass
class Row:
    """A method: {column: one value for each seed that has it}."""

    name: str
    seeds: int
    petaflops: float
    hours: float
    accuracy: dict[str, list[float]]


def read_runs(work_dir: Path) -> dict[str, list[dict]]:
    """The results that are there, by method, seed by seed."""
    methods = defaultdict(list)
    for path in sorted(work_dir.glob('*/seed-*/results.json')):
        try:
            results = json.loads(path.read_text())
        except ValueError as error:
            raise ValueError(
                f'{path}: must be the results of a run: {error}'
            ) from error
        if results['accuracy']:
            methods[results['name']].append(results)
    return methods


def markdown(headings: list[str], rows: list[list[str]]) -> str:
    """A table."""
    lines = [headings, ['---'] * len(headings), *rows]
    return ''.join(f'| {" | ".join(cells)} |\n' for cells in lines)


def collect(work_dir: Path) -> list[Row]:
    """The runs that are there, the best in the first column first."""
    import numpy as np

    methods = read_runs(work_dir)
    columns = dict.fromkeys(HEADINGS)
    for runs in methods.values():
        for run in runs:
            columns.update(dict.fromkeys(run['accuracy']))
    rows = []
    for name, runs in methods.items():
        accuracy = {
            column: [
                run['accuracy'][column]
                for run in runs
                if column in run['accuracy']
            ]
            for column in columns
        }
        flops, hours = (
            float(np.mean([run[key] for run in runs]))
            for key in ('flops', 'hours')
        )
        rows.append(Row(name, len(runs), flops / 1e15, hours, accuracy))
    for row in rows:  # columns that nobody has
        for column in columns:
            if not any(other.accuracy.get(column) for other in rows):
                row.accuracy.pop(column, None)
    return sorted(
        rows,
        key=lambda row: [
            -np.nan_to_num(np.mean(v or [0]), nan=-1)
            for v in row.accuracy.values()
        ],
    )


def report(work_dir: Path) -> str:
    """Write the table and the plot; returns the table."""
    import numpy as np
    from plot import plot

    from saim_mm.checkpoint.atomic import atomic_write

    rows = collect(work_dir)
    columns = list(rows[0].accuracy) if rows else []
    headings = ['pre-training', 'seeds', 'PFLOP', 'hours']
    headings += [HEADINGS.get(column, column) for column in columns]
    lines = []
    for row in rows:
        cells = [row.name, str(row.seeds)]
        cells += [f'{row.petaflops:.3g}', f'{row.hours:.2f}']
        for values in row.accuracy.values():
            cell = f'{np.mean(values):.1f}' if values else ''
            if len(values) > 1:
                cell += f' ± {np.std(values, ddof=1):.1f}'
            cells.append(cell)
        lines.append(cells)
    table = markdown(headings, lines)
    atomic_write(work_dir / 'table.md', table.encode())
    if any(row.petaflops for row in rows):  # nothing costs nothing to plot
        plot(rows).savefig(work_dir / 'study.png')
    return table


def differences(work_dir: Path, name: str) -> str:
    """A table of what each method has more than one of them.

    Raises:
        ValueError: If there is no such method.
    """
    import numpy as np

    found = {  # method -> seed -> column -> accuracy
        method: {run['seed']: run['accuracy'] for run in runs}
        for method, runs in read_runs(work_dir).items()
    }
    if name not in found:
        raise ValueError(f'--against {name}: must be one of {sorted(found)}')
    theirs = found.pop(name)
    known = dict.fromkeys(column for run in theirs.values() for column in run)
    columns = [column for column in {**HEADINGS, **known} if column in known]
    headings = [f'minus {name}', 'seeds']
    headings += [HEADINGS.get(column, column) for column in columns]
    lines = []
    for method, runs in found.items():
        seeds = sorted(runs.keys() & theirs.keys())
        cells = [method, str(len(seeds))]
        for column in columns:
            gaps = [
                runs[seed][column] - theirs[seed][column]
                for seed in seeds
                if column in runs[seed] and column in theirs[seed]
            ]
            cell = f'{np.mean(gaps):+.1f}' if gaps else ''
            if len(gaps) > 1:
                cell += f' ± {np.std(gaps, ddof=1) / len(gaps) ** 0.5:.1f}'
            cells.append(cell)
        lines.append(cells)
    return markdown(headings, lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'work_dir', nargs='?', type=Path, default=Path('work_dirs/study')
    )
    parser.add_argument('--against', metavar='NAME')
    args = parser.parse_args()
    if not args.work_dir.is_dir():
        parser.error(f'{args.work_dir}: no such folder')
    try:
        print(report(args.work_dir), end='')
        if args.against:
            print(f'\n{differences(args.work_dir, args.against)}', end='')
    except ValueError as error:
        parser.error(str(error))


if __name__ == '__main__':
    main()
