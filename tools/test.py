"""Test a model: the toolbox's own test script, run on this package.

python tools/test.py CONFIG CHECKPOINT [--work-dir DIR] [--out FILE] [--tta]
    [--cfg-options KEY=VALUE ...] [--launcher none|pytorch|slurm]

The toolbox (mmpretrain, mmdet or mmseg) is the config's default_scope.
"""

from toolbox import run

if __name__ == '__main__':
    run('test.py')
