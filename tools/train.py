"""Train a model: mmpretrain's own training script, run on this package.

python tools/train.py CONFIG [--work-dir DIR] [--resume [CHECKPOINT]]
    [--amp] [--auto-scale-lr] [--cfg-options KEY=VALUE ...]
    [--launcher none|pytorch|slurm]
"""

import runpy
from pathlib import Path

import mmpretrain

if __name__ == '__main__':
    scripts = Path(mmpretrain.__file__).parent / '.mim' / 'tools'
    runpy.run_path(str(scripts / 'train.py'), run_name='__main__')
