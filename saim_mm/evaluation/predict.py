"""What a trained model says of images: classes, boxes, masks, maps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, default_collate
from mmengine.device import get_device
from mmpretrain.apis import get_model
from mmpretrain.visualization import UniversalVisualizer
from PIL import Image

from ..apis import check_readable
from ..checkpoint.heads import fit_heads
from ..datasets.images import in_a_line
from ..datasets.pixels import PixelFormat, pixel_format, read_pixels
from ..utils.check import check_arg
from ..visualization.figures import to_array
from .embed import files_of
from .inferencer import check_pipeline, class_meta, inferencer

#: Images at a time.
BATCH = 32
#: Of a box: columns of the table.
CORNERS = ('x1', 'y1', 'x2', 'y2')


class Found(NamedTuple):
    """What is said of one image.

    Attributes:
        rows: A class; each box; or each class of a map.
        picture: RGB, uint8, (height, width, 3): the image with these drawn in.
        labels: The class of each pixel, uint8 (uint16 of more than 256
            classes), (height, width); None if it is no segmentation.
    """

    rows: list[dict[str, Any]]
    picture: np.ndarray | None = None
    labels: np.ndarray | None = None


#: Files and their pixels, as :func:`read_pixels` gives them.
Images = Sequence[tuple[str, np.ndarray]]


class Predictor(NamedTuple):
    """What says something of images.

    Attributes:
        columns: What a row has, but for the mask of a box.
        ask: Gives it for each image, drawn if the second argument is true; or
            why it cannot: of extreme sides resizing leaves nothing.
    """

    columns: tuple[str, ...]
    ask: Callable[[Images, bool], Iterator[Found | Exception]]


class Table(NamedTuple):
    """What is said of all images.

    Attributes:
        columns: Of a row, the file first.
        rows: In the order of the files.
        skipped: Files that cannot be read, and why.
    """

    columns: tuple[str, ...]
    rows: list[dict[str, Any]]
    skipped: list[tuple[str, str]]


def predict(
    config: str | Path,
    checkpoint: str | Path,
    paths: Iterable[str | Path],
    pictures: str | Path | None = None,
    score: float = 0.3,
) -> Table:
    """Say what a classifier, a detector or a segmentation model finds.

    Args:
        config: Of the model.
        checkpoint: All of its weights.
        paths: Files, or folders, which are searched with their sub-folders.
        pictures: A folder for pictures with what was found, as
            ``<name>.jpg``, and for maps of classes, ``<name>_labels.png``, in
            the sub-folders that the images are in; ``<name>`` is with its
            suffix where two differ in that alone. None: nothing is drawn.
        score: Least score of a box.

    Returns:
        Rows with ``file``, ``class`` and, of a classifier, ``score``, its
        probability; of a detector, a row for each box, ``score``, ``x1``,
        ``y1``, ``x2``, ``y2`` in pixels and, if it finds masks, ``mask``,
        COCO's run lengths; of a segmentation, for each class of the image,
        ``share`` of the pixels.

    Raises:
        FileNotFoundError: If a path is not there.
        ValueError: If the config is of another task, the checkpoint has not
            its weights, or no image can be read.
    """
    check_arg(0 <= score <= 1, 'score', score, 'from 0 to 1')
    files = [str(file) for file in files_of(paths)]
    names = None
    if pictures is not None:
        names = picture_names(paths, files, Path(pictures).expanduser())
    cfg = Config.fromfile(config)
    columns, ask = predictor(cfg, config, checkpoint, score)
    pixels = pixel_format(cfg)
    rows, skipped = [], []
    for start in range(0, len(files), BATCH):
        images = []
        for file in files[start : start + BATCH]:
            try:
                images.append((file, read_pixels(file, pixels)))
            except ValueError as error:
                skipped.append((file, str(error)))
        for (file, _), found in zip(images, ask(images, names is not None)):
            if isinstance(found, Exception):
                skipped.append((file, f'{file}: {said(found)}'))
                continue
            rows += [{'file': file, **row} for row in found.rows]
            if names is not None:
                save(found, names[file])
    check_readable(skipped, len(files))
    return Table(('file', *columns), rows, skipped)


def said(error: Exception) -> str:
    """What an error says, in a line."""
    return in_a_line(' '.join(str(error).split()) or type(error).__name__)


def picture_names(
    paths: Iterable[str | Path], files: Sequence[str], folder: Path
) -> dict[str, Path]:
    """Where the picture of each file goes.

    Raises:
        ValueError: If that is a folder of the images, whose files it might
            write over, or where another picture goes.
    """
    roots = [Path(x).expanduser() for x in paths]
    roots = [path for path in roots if path.is_dir()]
    kept = {Path(file).absolute().parent.resolve() for file in files}
    kept |= {Path(file).resolve().parent for file in files}
    places = {}
    for file in map(Path, files):
        root = next((x for x in roots if file.is_relative_to(x)), file.parent)
        places[str(file)] = folder / file.relative_to(root)
    stems = Counter(path.with_suffix('') for path in places.values())
    names, taken = {}, set()
    for file, path in places.items():
        one = stems[path.with_suffix('')] == 1
        names[file] = (path.with_suffix if one else path.with_name)(
            '.jpg' if one else f'{path.name}.jpg'
        )
        place = names[file].resolve()
        check_arg(
            place.parent not in kept and place not in taken,
            'pictures',
            str(folder),
            f'another folder, or of fewer images: {names[file]}, for {file}, '
            'is among the images, or the picture of another',
        )
        taken.add(place)
    return names


def save(found: Found, path: Path) -> None:
    """Write the picture of an image, and the map."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(found.picture).save(path, quality=95)
    if found.labels is not None:
        labels = path.with_name(f'{path.stem}_labels.png')
        Image.fromarray(found.labels).save(labels)


def predictor(
    cfg: Config, config: str | Path, checkpoint: str | Path, score: float
) -> Predictor:
    """A model that says something of images.

    Args:
        cfg: Changed: gets the numbers of classes that the checkpoint has.
        config: Its file, for errors.
        score: Least score of a box.
    """
    if cfg.model.type == 'ImageClassifier':
        return classifier(cfg, checkpoint)
    scope = cfg.get('default_scope')
    if scope not in ('mmdet', 'mmseg'):
        raise ValueError(
            f'{config}: must be of a classifier, a detector or a segmentation '
            f'model, and is of a {cfg.model.type}; saim view shows what '
            'pre-training has learned'
        )
    model = inferencer(cfg, checkpoint, show_progress=False)
    return detector(model, score) if scope == 'mmdet' else segmenter(model)


def classifier(cfg: Config, checkpoint: str | Path) -> Predictor:
    """The class of each image."""
    check_pipeline(cfg)
    cfg.model.backbone.init_cfg = None  # the checkpoint has all weights
    fit_heads(cfg, checkpoint)
    model = get_model(cfg, str(checkpoint), device=get_device()).eval()
    # All but the first, which loads the image.
    pipeline = Compose(cfg.test_dataloader.dataset.pipeline[1:])
    pixels = pixel_format(cfg)
    meta = dict(dataset_meta=getattr(model, '_dataset_meta', None))
    classes = class_meta(cfg, meta)['classes']
    visualizer = UniversalVisualizer(name='saim predict')

    def ask(images: Images, draw: bool) -> Iterator[Found | Exception]:
        inputs = [attempt(pipeline, dict(img=x)) for _, x in images]
        good = [x for x in inputs if not isinstance(x, Exception)]
        results: Iterator = iter(())
        if good:
            with torch.no_grad():
                results = iter(model.test_step(default_collate(good)))
        for (_, image), given in zip(images, inputs):
            if isinstance(given, Exception):
                yield given
                continue
            result = next(results)
            label = int(result.pred_label)
            row = {
                'class': classes[label],
                'score': round(float(result.pred_score.max()), 4),
            }
            picture = None
            if draw:
                picture = visualizer.visualize_cls(
                    to_picture(image, pixels),
                    result,
                    classes,
                    draw_gt=False,
                    resize=short_side(*image.shape[:2]),
                )
            yield Found([row], picture)

    return Predictor(('class', 'score'), ask)


def attempt(ask: Callable, *args: Any, **kwargs: Any) -> Any:
    """What it returns, or its error: mmcv's, OpenCV's and PyTorch's differ."""
    try:
        return ask(*args, **kwargs)
    except Exception as error:
        return error


def short_side(height: int, width: int) -> int:
    """Of a picture of an image: words want room, files have a limit."""
    short, long = sorted((height, width))
    return max(short, min(224, short * 4096 // long))


def to_picture(image: np.ndarray, pixels: PixelFormat) -> np.ndarray:
    """Pixels as they are read, as RGB, uint8, (height, width, 3)."""
    if pixels.plain:
        return np.ascontiguousarray(image[..., ::-1])
    planes = torch.from_numpy(image).permute(2, 0, 1).float()
    return to_array(pixels.to_rgb(planes))


def detector(model: Any, least: float) -> Predictor:
    """The boxes of each image, and masks if it finds them.

    Args:
        model: mmdet's inferencer.
        least: Least score of a box.
    """
    classes = model.model.dataset_meta['classes']

    def ask(images: Images, draw: bool) -> Iterator[Found | Exception]:
        for file, _ in images:
            found = attempt(model, file, return_vis=draw, pred_score_thr=least)
            if isinstance(found, Exception):
                yield found
                continue
            [boxes] = found['predictions']
            if 'labels' not in boxes:
                raise ValueError(
                    'the model must find boxes, and finds a panoptic '
                    'segmentation'
                )
            masks = boxes.get('masks') or [None] * len(boxes['labels'])
            rows = []
            for label, score, corners, mask in zip(
                boxes['labels'], boxes['scores'], boxes['bboxes'], masks
            ):
                if score < least:
                    continue
                row = {'class': classes[label], 'score': round(score, 4)}
                row |= zip(CORNERS, (round(x, 1) for x in corners))
                rows.append(row if mask is None else {**row, 'mask': mask})
            yield Found(rows, found['visualization'][0] if draw else None)

    return Predictor(('class', 'score', *CORNERS), ask)


def segmenter(model: Any) -> Predictor:
    """The class of each pixel.

    Args:
        model: mmseg's inferencer.
    """
    classes = model.model.dataset_meta['classes']
    depth = np.uint8 if len(classes) <= 256 else np.uint16

    def ask(images: Images, draw: bool) -> Iterator[Found | Exception]:
        for file, _ in images:
            found = attempt(model, file, return_vis=draw)
            if isinstance(found, Exception):
                yield found
                continue
            labels = found['predictions'].astype(depth)
            number = np.bincount(labels.ravel(), minlength=len(classes))
            rows = [
                {'class': name, 'share': round(n / labels.size, 4)}
                for name, n in zip(classes, number.tolist())
                if n
            ]
            yield Found(rows, found['visualization'] if draw else None, labels)

    return Predictor(('class', 'share'), ask)
