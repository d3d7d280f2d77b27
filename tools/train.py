"""Train a model: the toolbox's own training script, run on this package.

python tools/train.py CONFIG [--work-dir DIR] [--resume [CHECKPOINT]]
    [--amp] [--auto-scale-lr] [--cfg-options KEY=VALUE ...]
    [--launcher none|pytorch|slurm]

The toolbox (mmpretrain, mmdet or mmseg) is the config's default_scope. mmseg's
script has no --auto-scale-lr, and its --resume takes no checkpoint.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path

if 'TORCHELASTIC_RUN_ID' in os.environ and sys.platform == 'linux':
    # PR_SET_PDEATHSIG, before the imports, which take seconds: what a killed
    # torchrun had started would wait for the next one, and join it.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)

from toolbox import check, read_arguments, run  # noqa: E402


def begin_or_go_on(arguments, cfg, args):
    """Arguments with which `load_from` is of the first start alone.

    (With --resume the scripts leave it out at the first, too, or load it at
    each.)
    """
    from saim_mm.engine.resume import find_checkpoints, read_pointer

    folder = args.work_dir or cfg.get('work_dir')
    folder = folder or Path('work_dirs', Path(args.config).stem)
    if find_checkpoints(folder) or read_pointer(folder):
        return [*arguments, '--cfg-options', 'load_from=None']
    return [word for word in arguments if word != '--resume']


if __name__ == '__main__':
    cfg, args = read_arguments(sys.argv[1:])
    if cfg is None:  # --help, or no such file: the script says so
        run('train.py')
    else:
        toolbox = check(cfg)
        if args.resume is True and cfg.get('load_from'):
            sys.argv[1:] = begin_or_go_on(sys.argv[1:], cfg, args)
        run('train.py', toolbox)
