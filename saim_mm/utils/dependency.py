"""Says in one line what is missing when a toolbox is not installed."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import sys
import warnings
from collections.abc import Iterator
from typing import TextIO

from .alone import ALONE

INSTALL = {
    'mmengine': "pip install 'saim_mm[onedl]'",
    'mmcv': "pip install 'saim_mm[onedl]'",
    'mmpretrain': "pip install 'saim_mm[onedl]'",
    'mmdet': "pip install 'saim_mm[onedl,detection]'",
    'mmseg': "pip install 'saim_mm[onedl,segmentation]'",
    'gradio': "pip install 'saim_mm[web]'",
    'sklearn': "pip install 'saim_mm[demo]'",
    'tifffile': "pip install 'saim_mm[tiff]'",
}


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keep off standard output what the toolboxes say.

    Whatever they print (of operators that are not compiled, of data sets of
    others) goes to Python's log, at level DEBUG; of what they log there only
    errors are shown, on standard error.
    """
    said = io.StringIO()
    before = [(x, x.level) for x in handlers(sys.stdout)]
    for handler, level in before:
        handler.setStream(sys.stderr)
        handler.setLevel(max(level, logging.ERROR))
    try:
        with contextlib.redirect_stdout(said), warnings.catch_warnings():
            warnings.filterwarnings('ignore', 'Fail to import')
            yield
    finally:
        for line in said.getvalue().splitlines():
            logging.getLogger('saim_mm').debug(line)
        # MMEngine's logger took hold of what was standard output.
        for handler in handlers(said):
            handler.setStream(sys.stdout)
        for handler, level in before:
            handler.setStream(sys.stdout)
            handler.setLevel(level)


def handlers(stream: TextIO) -> list[logging.StreamHandler]:
    """Those of MMEngine's loggers that write to a stream."""
    module = sys.modules.get('mmengine.logging')
    if module is None:
        return []
    module.MMLogger.get_current_instance()  # the one that would be made
    return [
        handler
        for logger in module.MMLogger._instance_dict.values()
        for handler in logger.handlers
        if getattr(handler, 'stream', None) is stream
    ]


def require(module: str, needed_by: str) -> None:
    """Import a module, or say how to install it.

    Args:
        module: One of :data:`INSTALL`, or in it, as ``'mmdet.apis'``.
        needed_by: What the user asked for, named in the message.

    Raises:
        ImportError: If ``module`` cannot be imported.
    """
    try:
        with ALONE, quietly():
            importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f'{needed_by} needs {module}, which cannot be '
            f'imported ({error}). To install it: '
            f'{INSTALL[module.split(".")[0]]}'
        ) from error
    except TypeError as error:
        # mmpretrain subclasses what transformers 5 no longer has, as soon as
        # pycocotools, which mmdet needs, is installed.
        if 'NoneType takes no arguments' not in str(error):
            raise
        raise ImportError(
            f'{needed_by} needs {module}, which cannot be imported beside '
            "this version of transformers: pip install 'transformers<5'"
        ) from error
