"""Accuracy against what pre-training costs."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

if TYPE_CHECKING:
    from table import Row

COSTS = (
    ('petaflops', 'PFLOP of pre-training'),
    ('hours', 'hours of pre-training'),
)
#: Folder of a method's config -> heading, colour and marker.
GROUPS = {
    'pretrain': ('SAIM', 'C0', 'o'),
    'light': ('a lighter decoder', 'C2', 's'),
    'baselines': ('other methods', 'C1', 'D'),
    'beyond': ('beyond the paper', 'C4', '^'),
    'ablations': ('ablations', 'C3', 'v'),
    'other': ('other configs', '0.4', 'X'),
}
#: Groups of which only these are named, and what is on the front.
CROWDS = ('ablations', 'other')
TITLES = {
    'saim': 'SAIM',
    'stochastic': 'SAIM, no blur',
    'raster': 'raster order, no blur',
    'vit-igpt': 'ViT-iGPT',
    'randsac': 'RandSAC',
    'mae': 'MAE',
    'simmim': 'SimMIM',
    'mocov3': 'MoCo v3',
    'supervised': 'all labels (a bound)',
}
SCRATCH = 'not pre-trained'
FONT = 8
SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))


def groups() -> dict[str, str]:
    """The group of every method that has a config in the package."""
    from run import CONFIGS, name_of

    paths = sorted((CONFIGS / 'pretrain').rglob('*.py'), reverse=True)
    return {name_of(path): path.parent.name for path in paths}


class Point(NamedTuple):
    """Mean and deviation over the seeds; a colour if it gets its name."""

    cost: float
    mean: float
    error: float
    color: str = ''


def front(points: dict[str, Point]) -> list[str]:
    """The methods that are better than every cheaper one.

    What has seen labels is not among them.
    """
    names: list[str] = []
    for name in sorted(points, key=lambda name: points[name].cost):
        best = points[names[-1]].mean if names else -np.inf
        if name != 'supervised' and points[name].mean > best:
            names.append(name)
    return names


def draw(
    axis: Axes, rows: list[Row], cost: str, measure: str, group: dict[str, str]
) -> dict[str, Point]:
    """One panel, but for the names; returns what has a point there."""
    points = {}
    for row in rows:
        values = row.accuracy[measure]
        if not values:
            continue
        mean = float(np.mean(values))
        error = float(np.std(values, ddof=1)) if len(values) > 1 else 0
        if row.petaflops == 0:  # from scratch
            axis.axhspan(mean - error, mean + error, color='0.93', zorder=0)
            axis.axhline(mean, color='0.4', ls='--', lw=1)
            axis.annotate(
                SCRATCH,
                (1, mean),
                (-3, 2),
                xycoords=('axes fraction', 'data'),
                textcoords='offset points',
                ha='right',
                fontsize=FONT,
                color='0.4',
            )
        else:
            points[row.name] = Point(getattr(row, cost), mean, error)
    best = front(points)
    if best:
        axis.plot(
            *zip(*(points[name][:2] for name in best)), color='0.7', zorder=1
        )
    for name, point in points.items():
        folder = group.get(name, 'other')
        _, color, marker = GROUPS[folder]
        pale = folder in CROWDS and name not in {*TITLES, *best}
        points[name] = point._replace(color='' if pale else color)
        axis.errorbar(
            *point[:3],
            color=color,
            fmt=marker,
            ms=4 if pale else 6,
            mfc=color if point.error else 'white',
            alpha=0.4 if pale else 1,
            capsize=3 if point.error else 0,
            zorder=2 + (not pale) + (folder == 'pretrain'),
        )
    return points


def write_names(axis: Axes, points: dict[str, Point]) -> None:
    """Write names beside points, where nothing is yet.

    Of places around a point, the nearest first, the first that is inside the
    panel and covers no point, bar or name; a line leads to one farther off.

    Args:
        axis: Its limits and place are final.
        points: Those with a colour get a name.
    """
    inside = axis.get_window_extent()
    unit = axis.figure.dpi / 72  # pixels of a typographical point
    taken = [text.get_window_extent() for text in axis.texts]
    for line in axis.lines[:2]:  # drawn first: not pre-trained, the front
        ends = line.get_transform().transform(line.get_xydata())
        for a, b in zip(ends, ends[1:]):
            steps = np.linspace(a, b, 100)
            taken += [Bbox.from_extents(*xy, *xy).padded(unit) for xy in steps]
    for x, mean, error, _ in points.values():
        ends = axis.transData.transform([(x, mean - error), (x, mean + error)])
        taken.append(Bbox(ends).padded(4 * unit))
    for name, point in sorted(points.items(), key=lambda item: -item[1].mean):
        if not point.color:
            continue
        title = TITLES.get(name, name)
        text = axis.figure.text(0, 0, title, fontsize=FONT)
        size = np.array(text.get_window_extent().size)
        text.remove()
        place = axis.transData.transform(point[:2])
        for far, side in product((6, 12, 20, 30, 42, 56), SIDES):
            offset = np.array(side) * (size / 2 + far * unit)
            box = Bbox.from_bounds(*(place + offset - size / 2), *size)
            fits = inside.containsx(box.x0) and inside.containsx(box.x1)
            fits &= inside.containsy(box.y0) and inside.containsy(box.y1)
            if fits and not box.count_overlaps(taken):
                break
        taken.append(box)
        line = dict(arrowstyle='-', color=point.color, lw=0.6, shrinkA=0)
        axis.annotate(
            title,
            point[:2],
            offset / unit,
            textcoords='offset points',
            ha='center',
            va='center',
            fontsize=FONT,
            color=point.color,
            arrowprops=line if far > 6 else None,
        )


def plot(rows: list[Row]) -> Figure:
    """Draw a table's first column and efficient probing, or the second.

    Args:
        rows (list[Row]): Of tools/study/table.py.

    Returns:
        Figure: A column for each cost that the results have. Methods of
        :data:`CROWDS` are pale and without a name, but for those of
        :data:`TITLES` and those that nothing cheaper is better than.
    """
    from table import HEADINGS

    first, *rest = rows[0].accuracy
    measures = [first, *(['efficient'] if 'efficient' in rest else rest[:1])]
    costs = [cost for cost in COSTS if any(getattr(x, cost[0]) for x in rows)]
    size = len(measures), len(costs)
    figure = Figure(
        figsize=(2.5 + 3.2 * len(costs), 3.5 * len(measures) + 0.5),
        layout='constrained',
        dpi=130,
    )
    axes = figure.subplots(*size, sharex='col', sharey='row', squeeze=False)
    group = groups()
    panels = []
    for line, measure in zip(axes, measures):
        line[0].set_title(HEADINGS.get(measure, measure), loc='left')
        line[0].set_ylabel('per cent')
        for axis, (cost, _) in zip(line, costs):
            panels.append((axis, draw(axis, rows, cost, measure, group)))
            axis.grid(alpha=0.2)
            axis.margins(x=0.12, y=0.08)
            axis.locator_params(axis='x', nbins=7)
    for axis, (_, label) in zip(axes[-1], costs):
        axis.set_xlabel(label)
    shown = {group.get(row.name, 'other') for row in rows if row.petaflops}
    handles = [
        Line2D([], [], color=color, marker=marker, ls='', label=heading)
        for folder, (heading, color, marker) in GROUPS.items()
        if folder in shown
    ]
    handles.append(
        Line2D([], [], color='0.7', label='nothing cheaper is better')
    )
    figure.legend(
        handles=handles, loc='outside upper center', ncols=3, fontsize=FONT
    )
    figure.draw_without_rendering()  # places the panels
    figure.set_layout_engine('none')
    for axis, points in panels:
        write_names(axis, points)
    return figure
