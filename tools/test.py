"""Test a model: the toolbox's own test script, run on this package.

python tools/test.py CONFIG CHECKPOINT [--work-dir DIR] [--out FILE] [--tta]
    [--cfg-options KEY=VALUE ...] [--launcher none|pytorch|slurm]

The toolbox (mmpretrain, mmdet or mmseg) is the config's default_scope. The
numbers of classes are those of the checkpoint's own config, unless
--cfg-options names them; a checkpoint that lacks a head, or has one of another
size, is refused.
"""

import argparse
import sys
from pathlib import Path

from mmengine.config import Config, DictAction
from toolbox import run

from saim_mm.checkpoint.heads import fit_heads


def adopt_classes(arguments):
    """Arguments with the options that the checkpoint's config says.

    Exits if the checkpoint does not fit the config all the same.
    """
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument('config', nargs='?')
    parser.add_argument('checkpoint', nargs='?')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    args, _ = parser.parse_known_args(arguments)
    if not args.checkpoint or not Path(args.config).is_file():
        return arguments
    cfg = Config.fromfile(args.config)
    given = args.cfg_options or {}
    cfg.merge_from_dict(given)
    try:
        others = fit_heads(cfg, args.checkpoint, given)
    except (ValueError, OSError) as error:
        raise SystemExit(f'{sys.argv[0]}: error: {error}') from error
    if not others:
        return arguments
    words = [f'{key}={value}' for key, value in others.items()]
    print(f"The checkpoint's own config says: {' '.join(words)}")
    option = '--cfg-options'
    if option not in arguments:
        arguments = [*arguments, option]
    place = arguments.index(option) + 1
    return [*arguments[:place], *words, *arguments[place:]]


if __name__ == '__main__':
    sys.argv[1:] = adopt_classes(sys.argv[1:])
    run('test.py')
