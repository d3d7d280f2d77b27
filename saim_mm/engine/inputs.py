"""What the images of a training are to its model."""

from __future__ import annotations

from pathlib import Path

from mmengine.config import Config

from ..datasets.folders import Folder
from ..datasets.pixels import (
    PixelFormat,
    check_kinds,
    choose_format,
    pixel_format,
)
from .run import CONFIG, config_for


def choose_pixels(
    folder: Folder,
    channels: int | None,
    out: str | Path,
    init: str | Path | None = None,
) -> PixelFormat:
    """What a folder's images are to a training.

    What there is stays: of the training in ``out``, which goes on, or that the
    checkpoint is of. A checkpoint of others is for RGB. Else the images are
    looked at, and measured.

    Args:
        channels: As for :func:`~saim_mm.pretrain`.
        out: The folder of the training.
        init: What it starts from, as for :func:`~saim_mm.pretrain`.

    Raises:
        ValueError: If the images are of several kinds, or of another.
    """
    before = [Path(out).expanduser() / CONFIG]
    if init is not None:
        before.append(config_for(init))
    for config in before:
        if config is not None and config.is_file():
            known = pixel_format(Config.fromfile(config))
            if channels in (None, known.channels):
                check_kinds(folder.kinds, known)
                return known
    if init is not None and channels is None:
        channels = 3
    return choose_format(
        folder.kinds, folder.files, channels, str(folder.path)
    )
