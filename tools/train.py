"""Train a model: the toolbox's own training script, run on this package.

python tools/train.py CONFIG [--work-dir DIR] [--resume [CHECKPOINT]]
    [--amp] [--auto-scale-lr] [--cfg-options KEY=VALUE ...]
    [--launcher none|pytorch|slurm]

The toolbox (mmpretrain, mmdet or mmseg) is the config's default_scope. mmseg's
script has no --auto-scale-lr, and its --resume takes no checkpoint.
"""

from toolbox import run

if __name__ == '__main__':
    run('train.py')
