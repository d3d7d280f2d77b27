"""Test a model: the toolbox's own test script, run on this package.

python tools/test.py CONFIG CHECKPOINT [--work-dir DIR] [--out FILE] [--tta]
    [--cfg-options KEY=VALUE ...] [--launcher none|pytorch|slurm]

The toolbox (mmpretrain, mmdet or mmseg) is the config's default_scope. The
numbers of classes are those of the checkpoint's own config, unless
--cfg-options names them; a checkpoint that lacks a head, or has one of another
size, is refused.
"""

import sys

from toolbox import check, read_arguments, run

from saim_mm.checkpoint.heads import fit_heads
from saim_mm.utils.check import end_with


def adopt_classes(arguments, cfg, checkpoint, given):
    """Arguments with the options that the checkpoint's config says.

    Exits if the checkpoint does not fit the config all the same.
    """
    try:
        others = fit_heads(cfg, checkpoint, given)
    except (ValueError, OSError) as error:
        end_with(error)
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
    cfg, args = read_arguments(sys.argv[1:])
    checkpoint = args.checkpoint
    if cfg is None:  # --help, or no such file: the script says so
        run('test.py')
    else:
        if checkpoint:
            cfg.load_from = checkpoint  # as the script will say
        toolbox = check(cfg)
        if checkpoint:
            sys.argv[1:] = adopt_classes(
                sys.argv[1:], cfg, checkpoint, args.cfg_options
            )
        run('test.py', toolbox)
