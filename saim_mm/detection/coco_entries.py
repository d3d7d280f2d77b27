"""What may stand in a file in COCO's format."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from typing import Any, NoReturn

#: What an id may be.
IDS = (int, str)
#: Refuses what is wrong: its place in the file, its value, what is right.
Refuse = Callable[[str, Any, str], NoReturn]


def check_entries(content: Mapping, field: str, masks: bool) -> None:
    """Refuse entries that mmdet would lose, or end in the middle of.

    Args:
        content: Of the file, with its three parts.
        field: What named the file.
        masks: Whether each annotation must have a mask.

    Raises:
        ValueError: If an entry has not what it needs; an id, or the name of a
            class, is there twice; a box is none; or a mask is of another size
            than its image.
    """

    def refuse(place: str, value: Any, right: str) -> NoReturn:
        value = reprlib.repr(value)  # a mask is long
        raise ValueError(f'{field}: {place}={value}: must be {right}')

    classes = index(content, 'categories', ('id', 'name'), refuse)
    names = set()
    for category in classes.values():
        if category['name'] in names:
            refuse('categories: name', category['name'], 'of one class only')
        names.add(category['name'])
    needed = ('id', 'file_name', 'width', 'height')
    images = index(content, 'images', needed, refuse)
    for number, image in images.items():
        for side in ('width', 'height'):
            if not (is_finite([image[side]]) and image[side] > 0):
                refuse(f'image {number}: {side}', image[side], 'pixels')
    needed = ('id', 'image_id', 'category_id', 'bbox')
    for number, found in index(content, 'annotations', needed, refuse).items():
        place = f'annotation {number}: '
        for name, known in (('image_id', images), ('category_id', classes)):
            if not (isinstance(found[name], IDS) and found[name] in known):
                refuse(
                    place + name, found[name], f'one of {list(known)[:5]}, …'
                )
        box = found['bbox']
        if not (isinstance(box, list) and len(box) == 4 and is_finite(box)):
            refuse(place + 'bbox', box, '[left, top, width, height]')
        check_mask(found, images[found['image_id']], masks, place, refuse)


def index(
    content: Mapping, part: str, needed: Iterable[str], refuse: Refuse
) -> dict[Any, dict]:
    """The entries of a part by their ids."""
    entries = content[part]
    if not isinstance(entries, list):
        refuse(part, type(entries).__name__, 'a list')
    found: dict[Any, dict] = {}
    for number, entry in enumerate(entries):
        lacking = [
            name
            for name in needed
            if not isinstance(entry, dict) or entry.get(name) is None
        ]
        if lacking:
            refuse(f'{part}[{number}]', entry, f'a dict with {lacking}')
        if not isinstance(entry['id'], IDS) or entry['id'] in found:
            refuse(
                f'{part}[{number}].id',
                entry['id'],
                'a number of this entry alone',
            )
        found[entry['id']] = entry
    return found


def check_mask(
    annotation: Mapping,
    image: Mapping,
    needed: bool,
    place: str,
    refuse: Refuse,
) -> None:
    """Refuse a mask that is missing, none, or of another size."""
    place += 'segmentation'
    mask = annotation.get('segmentation')
    if not mask:
        if needed:
            refuse(
                place,
                mask,
                'polygons or run lengths with a model that learns masks; of '
                'boxes alone learns a Faster R-CNN (configs/detection/'
                'faster-rcnn_*)',
            )
    elif isinstance(mask, dict):
        size = [image['height'], image['width']]
        if mask.get('size') != size or 'counts' not in mask:
            refuse(
                place,
                {'size': mask.get('size')},
                f'run lengths with counts and size={size}, (height, width) '
                'of its image',
            )
    elif not isinstance(mask, list) or not all(
        isinstance(polygon, list)
        and len(polygon) % 2 == 0
        and is_finite(polygon)
        for polygon in mask
    ):
        refuse(place, mask, 'a list of polygons, [[x, y, x, y, …], …]')


def is_finite(values: Iterable[Any]) -> bool:
    """Whether all are finite numbers."""
    return all(
        isinstance(x, Real) and not isinstance(x, bool) and math.isfinite(x)
        for x in values
    )
