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

if 'TORCHELASTIC_RUN_ID' in os.environ and sys.platform == 'linux':
    # PR_SET_PDEATHSIG, before the imports, which take seconds: what a killed
    # torchrun had started would wait for the next one, and join it.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)

from toolbox import check, read_arguments, run  # noqa: E402

if __name__ == '__main__':
    cfg, *_ = read_arguments(sys.argv[1:])
    if cfg is None:  # --help, or no such file: the script says so
        run('train.py')
    else:
        run('train.py', check(cfg))
