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

from mmengine.config import Config, DictAction

#: Toolbox -> what to import before its scripts.
PACKAGES = dict(
    mmpretrain='saim_mm',
    mmdet='saim_mm.detection',
    mmseg='saim_mm.segmentation',
)
#: Options of their train.py and test.py that a value follows.
VALUED = (
    '--work-dir',
    '--launcher',
    '--local_rank',
    '--local-rank',
    '--out',
    '--out-item',
    '--show-dir',
    '--interval',
    '--wait-time',
)
#: Those that stand for themselves.
FLAGS = (
    '--amp',
    '--auto-scale-lr',
    '--no-validate',
    '--no-pin-memory',
    '--no-persistent-workers',
    '--show',
    '--tta',
)


def read_arguments(arguments):
    """Read a config, with what --cfg-options change.

    Ends this process if an option does not fit the config.

    Returns:
        tuple[Config | None, argparse.Namespace]: The config, None if there is
        no such file; and what else was given: among others ``checkpoint``,
        ``cfg_options``, and ``resume``, True without a file behind it.
    """
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument('config', nargs='?')
    parser.add_argument('checkpoint', nargs='?')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, default={}
    )
    parser.add_argument('--resume', nargs='?', const=True)
    for option in VALUED:
        parser.add_argument(option)
    for option in FLAGS:
        parser.add_argument(option, action='store_true')
    args, _ = parser.parse_known_intermixed_args(arguments)
    if str(args.resume).endswith('.py'):  # mmseg's takes no value
        args.config, args.checkpoint = args.resume, args.config
        args.resume = True
    cfg = None
    if args.config and Path(args.config).is_file():
        cfg = Config.fromfile(args.config)
        from saim_mm.engine.checks.options import merge_options
        from saim_mm.utils.check import ConfigError, end_with

        try:
            merge_options(cfg, args.cfg_options)
        except ConfigError as error:
            end_with(error)
    return cfg, args


def check(cfg):
    """End this process if a config is wrong; return its toolbox.

    Its last line is the error, without a traceback.
    """
    from saim_mm.engine.checks.config import check_config
    from saim_mm.utils.check import ConfigError, end_with

    toolbox = cfg.get('default_scope', 'mmpretrain')
    if toolbox not in PACKAGES:  # another one's scope, such as mmengine
        toolbox = 'mmpretrain'
    importlib.import_module(PACKAGES[toolbox])
    try:
        check_config(cfg)
    except ConfigError as error:
        end_with(error)
    return toolbox


def run(script, toolbox='mmpretrain'):
    """Run a script on this process's arguments.

    Args:
        script (str): Its path in the toolbox's tools, such as 'train.py'.
        toolbox (str): Whose script. Defaults to 'mmpretrain'.
    """
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
