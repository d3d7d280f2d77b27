"""Says in one line what is missing when a toolbox is not installed."""

import importlib

INSTALL = {
    'mmengine': "pip install 'saim_mm[onedl]'",
    'mmcv': "pip install 'saim_mm[onedl]'",
    'mmpretrain': "pip install 'saim_mm[onedl]'",
    'mmdet': "pip install 'saim_mm[onedl,detection]'",
    'mmseg': "pip install 'saim_mm[onedl,segmentation]'",
    'gradio': "pip install 'saim_mm[web]'",
}


def require(module: str, needed_by: str) -> None:
    """Import a module, or say how to install it.

    Args:
        module (str): A key of :data:`INSTALL`, such as ``'mmdet'``.
        needed_by (str): What the user asked for, named in the message.

    Raises:
        ImportError: If ``module`` cannot be imported.
    """
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f'{needed_by} needs {module}, which cannot be '
            f'imported ({error}). To install it: '
            f'{INSTALL[module]}'
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
