"""What detectors and segmentation models find, side by side."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ..utils.check import check_arg


def draw_columns(
    columns: Mapping[str, Sequence[np.ndarray]],
    colors: Mapping[str, Sequence[int]] | None = None,
    width: float = 3,
) -> Figure:
    """Draw pictures in columns, each under its title.

    Args:
        columns: Title -> pictures, RGB, uint8, (height, width, 3); as many in
            every column, a row for each.
        colors: Class -> RGB, 0 to 255: what a legend under the pictures says.
        width: Of a column, in inches.

    Returns:
        The figure; a row is as high as its first picture.

    Raises:
        ValueError: If there is no picture, or a column has more than others.
    """
    number = len(next(iter(columns.values()), ()))
    lengths = {title: len(pictures) for title, pictures in columns.items()}
    check_arg(
        number > 0 and set(lengths.values()) == {number},
        'columns',
        lengths,
        'of equal lengths, of one picture or more',
    )
    rows = list(zip(*columns.values()))
    ratios = [row[0].shape[0] / row[0].shape[1] for row in rows]
    titles = [textwrap.fill(title, int(12 * width)) for title in columns]
    in_a_line = 2 * len(columns)  # classes of the legend
    lines = -(-len(colors or ()) // in_a_line)
    lines += max(title.count('\n') for title in titles)
    figure = Figure(
        figsize=(
            width * len(columns),
            width * sum(ratios) + 0.5 + 0.25 * lines,
        ),
        layout='constrained',
    )
    axes = figure.subplots(
        number,
        len(columns),
        squeeze=False,
        gridspec_kw=dict(height_ratios=ratios),
    )
    for axis, title in zip(axes[0], titles):
        axis.set_title(title, fontsize=11)
    for line, row in zip(axes, rows):
        for axis, picture in zip(line, row):
            axis.imshow(picture)
            axis.set_axis_off()
    if colors:
        figure.legend(
            handles=[
                Patch(color=np.divide(color, 255), label=name)
                for name, color in colors.items()
            ],
            loc='outside lower center',
            ncols=in_a_line,
            frameon=False,
        )
    return figure


def paint_labels(
    image: np.ndarray,
    labels: np.ndarray,
    palette: Sequence[Sequence[int]],
    opacity: float = 0.8,
) -> np.ndarray:
    """Paint a label map on its image, as mmseg paints predictions.

    Args:
        image: RGB, uint8, (height, width, 3).
        labels: Classes, (height, width); those without a colour are void, and
            not painted.
        palette: A colour, RGB, for each class.
        opacity: Of the colours. Defaults to 0.8, mmseg's.

    Returns:
        RGB, uint8, (height, width, 3).

    Raises:
        ValueError: If the label map has another size than the image.
    """
    check_arg(
        labels.shape == image.shape[:2],
        'labels',
        f'of {labels.shape} pixels',
        f'a map of one channel and of the size of its image, '
        f'{image.shape[:2]} (height, width)',
    )
    painted = image.astype(np.float32)
    known = labels < len(palette)
    colors = np.asarray(palette, np.float32)[labels[known]]
    painted[known] += opacity * (colors - painted[known])
    return painted.round().astype(np.uint8)
