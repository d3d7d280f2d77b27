"""Everything is in pyproject.toml, but for what `mim` looks for.

`mim search`, `download`, `train` and `run` look for configs, tools and
model-index.yml in an installed package's folder .mim.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
# onedl-mim 0.5 takes for the package's folder that of the first file that pip
# lists, in alphabetical order: for a distribution with its module's name that
# is the .dist-info, or the folder of scripts, '..'. So a folder that comes
# before both, as '+' does in ASCII, holds a copy.
MIM = ('saim_mm/.mim', '+saim_mm_mim')
# These write beside themselves, and belong to a checkout.
LEFT_OUT = ('__pycache__', 'demo.py', 'small_runs.sh')


class BuildWithMim(build_py):
    def run(self):
        super().run()
        if self.editable_mode:
            return
        for name in MIM:
            mim = Path(self.build_lib, name)
            shutil.rmtree(mim, ignore_errors=True)
            for folder in ('configs', 'tools'):
                shutil.copytree(
                    ROOT / folder,
                    mim / folder,
                    ignore=shutil.ignore_patterns(*LEFT_OUT),
                )
            shutil.copy(ROOT / 'model-index.yml', mim)


setup(cmdclass=dict(build_py=BuildWithMim))
