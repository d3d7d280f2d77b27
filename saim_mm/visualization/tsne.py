"""Many images in one picture, like beside like."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image
from torch import Tensor

from ..utils.check import check_arg
from ..utils.dependency import require

#: More images are thinned out: no picture has room for them.
MOST = 2500


def check_enough(images: int) -> None:
    """Refuse fewer images than have places in a plane."""
    check_arg(images >= 3, 'images', images, 'three or more')


def tsne(features: Tensor) -> np.ndarray:
    """Places in a plane, near for features that are alike (t-SNE).

    Args:
        features: float32, (N, C).

    Returns:
        float32, (N, 2), from 0 to 1.

    Raises:
        ImportError: Without scikit-learn.
        ValueError: If there are fewer than three.
    """
    require('sklearn', 'a t-SNE sheet')
    from sklearn.manifold import TSNE

    check_enough(len(features))
    # Equal images have no principal component, but for rounding.
    spread = features.std(dim=0).max()
    same = bool(spread <= 1e-6 * features.abs().max())
    places = TSNE(
        perplexity=min(30, (len(features) - 1) / 3),
        init='random' if same else 'pca',
        random_state=0,
    ).fit_transform(features.numpy())
    lowest, highest = places.min(axis=0), places.max(axis=0)
    return (places - lowest) / np.maximum(highest - lowest, 1e-12)


def draw_sheet(
    features: Tensor,
    thumbnail: Callable[[int], np.ndarray],
    side: int = 48,
) -> tuple[Image.Image, int]:
    """Draw images where t-SNE puts them.

    Each is moved to a square of a grid with as many squares, so that none
    hides another: :func:`squares`.

    Args:
        features: float32, (N, C); of more than 2,500 as many are shown,
            evenly spaced.
        thumbnail: The i-th image, RGB, uint8, (side - 2, side - 2, 3).
        side: Of a square, in pixels.

    Returns:
        The picture, and how many images are in it.

    Raises:
        ImportError: Without scikit-learn.
        ValueError: If there are fewer than three images.
    """
    step = -(-len(features) // MOST)
    shown = range(0, len(features), step)
    places = tsne(features[::step])
    length = int(np.ceil(np.sqrt(1.6 * len(shown))))  # some squares stay free
    picture = np.full((length * side, length * side, 3), 255, np.uint8)
    for image, (row, column) in zip(shown, squares(places, length)):
        top, left = row * side, column * side
        picture[top : top + side - 2, left : left + side - 2] = thumbnail(
            image
        )
    return Image.fromarray(picture), len(shown)


def squares(places: np.ndarray, length: int) -> np.ndarray:
    """A square of a grid for each place, its own, near where it is.

    Args:
        places: (N, 2), from 0 to 1.
        length: Squares in a row; there are no fewer squares than places.

    Returns:
        Row and column of each, int64, (N, 2), 0 to ``length - 1``: those whose
        squared distances from the places have the least sum.
    """
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    grid = np.stack(np.divmod(np.arange(length**2), length), axis=1)
    distances = cdist(places * (length - 1), grid, 'sqeuclidean')
    return grid[linear_sum_assignment(distances)[1]]
