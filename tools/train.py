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

from mmengine.config import DictAction  # noqa: E402
from toolbox import check, read_arguments, run  # noqa: E402

from saim_mm.utils.check import end_with  # noqa: E402


def of_the_first_start(weights):
    """Options for a `load_from` beside --resume.

    (The scripts would leave it out at the first start too, or resume from it
    at each.)
    """
    if DictAction._parse_iterable(weights) != weights:
        end_with(
            f'load_from={weights!r}: must be start_from in a config, beside '
            '--resume: --cfg-options cannot take such a name over'
        )
    return ['--cfg-options', 'load_from=None', f'start_from={weights}']


if __name__ == '__main__':
    cfg, args = read_arguments(sys.argv[1:])
    if cfg is None:  # --help, or no such file: the script says so
        run('train.py')
    else:
        weights = cfg.get('load_from')
        ours = cfg.get('runner_type') == 'SAIMRunner'
        if args.resume in (True, 'auto') and weights and ours:
            cfg.load_from, cfg.start_from = None, weights
            sys.argv += of_the_first_start(weights)
        run('train.py', check(cfg))
