"""Runs a script of the toolbox that a config is for."""

import argparse
import importlib
import runpy
from pathlib import Path

from mmengine.config import Config


def run(script):
    """Run a script on this process's arguments.

    Args:
        script (str): Its name: 'train.py' or 'test.py'.
    """
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument('config', nargs='?')
    config = parser.parse_known_args()[0].config
    scope = 'mmpretrain'
    if config and Path(config).is_file():
        scope = Config.fromfile(config).get('default_scope', scope)
    toolbox = Path(importlib.import_module(scope).__file__).parent
    runpy.run_path(
        str(toolbox / '.mim' / 'tools' / script), run_name='__main__'
    )
