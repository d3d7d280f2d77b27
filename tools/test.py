"""Test a model: mmpretrain's own test script, run on this package.

python tools/test.py CONFIG CHECKPOINT [--work-dir DIR] [--out FILE]
    [--cfg-options KEY=VALUE ...] [--launcher none|pytorch|slurm]
"""

import runpy
from pathlib import Path

import mmpretrain

if __name__ == '__main__':
    scripts = Path(mmpretrain.__file__).parent / '.mim' / 'tools'
    runpy.run_path(str(scripts / 'test.py'), run_name='__main__')
