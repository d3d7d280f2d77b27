"""Run any script of a toolbox on this package's models.

    python tools/toolbox.py mmpretrain|mmdet|mmseg SCRIPT ARGUMENT ...

SCRIPT is its path in the toolbox's tools, such as
analysis_tools/confusion_matrix.py; docs/toolboxes.md lists those that work.
mmdet's import mmcv's operators before they read a config, and fail without
compiled ones; here this package is imported before them.
"""

import argparse
import importlib
import runpy
import sys
from pathlib import Path

from mmengine.config import Config

#: Toolbox -> what to import before its scripts.
PACKAGES = dict(
    mmpretrain='saim_mm',
    mmdet='saim_mm.detection',
    mmseg='saim_mm.segmentation',
)


def run(script, toolbox=None):
    """Run a script on this process's arguments.

    Args:
        script (str): Its path in the toolbox's tools, such as 'train.py'.
        toolbox (str, optional): Defaults to None, the one that the config,
            which is the first argument, is for.
    """
    if toolbox is None:
        parser = argparse.ArgumentParser(add_help=False)
        parser.add_argument('config', nargs='?')
        config = parser.parse_known_args()[0].config
        toolbox = 'mmpretrain'
        if config and Path(config).is_file():
            toolbox = Config.fromfile(config).get('default_scope', toolbox)
    importlib.import_module(PACKAGES[toolbox])
    mim = Path(importlib.import_module(toolbox).__file__).parent / '.mim'
    path = mim / 'tools' / script
    if not path.is_file():
        raise SystemExit(
            f'SCRIPT={script}: {toolbox} has no such script in {path.parent}'
        )
    # Some import others of their folder, or of `tools`.
    sys.path[:0] = [str(path.parent), str(mim)]
    runpy.run_path(str(path), run_name='__main__')


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('toolbox', choices=PACKAGES)
    parser.add_argument('script')
    parser.add_argument('arguments', nargs=argparse.REMAINDER)
    args = parser.parse_args()
    sys.argv = [args.script, *args.arguments]
    run(args.script, args.toolbox)


if __name__ == '__main__':
    main()
