"""The commands of the README, as users give them, without the wait.

Importing PyTorch and the toolboxes takes longer than most tests. So a process
that has done it (multiprocessing's fork server) is forked for each script.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
SERVER = multiprocessing.get_context('forkserver')
SERVER.set_forkserver_preload(['saim_mm'])


def be_script(words, folder, environment, output):
    """In a forked process: what `python SCRIPT ARGUMENT ...` would be."""
    with open(output, 'w') as file:
        for standard in (1, 2):
            os.dup2(file.fileno(), standard)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    import torch

    torch.set_num_threads(int(environment['OMP_NUM_THREADS']))
    sys.argv = words
    path = environment.get('PYTHONPATH')
    sys.path[:0] = [
        str(Path(folder, words[0]).parent),
        *(path.split(os.pathsep) if path else ()),
    ]
    runpy.run_path(words[0], run_name='__main__')


def call(*command, folder=ROOT, **environment):
    """Run a command in a folder; return its exit code and output.

    Args:
        *command: Its words; after sys.executable a script.
        folder (Path): Defaults to the project's.
        **environment (str): Variables.
    """
    words = [str(word) for word in command]
    environment = {
        **os.environ,
        'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}',
        'OMP_NUM_THREADS': '1',
        **environment,
    }
    with tempfile.NamedTemporaryFile('r') as output:
        if words[0] == sys.executable and words[1].endswith('.py'):
            process = SERVER.Process(
                target=be_script,
                args=(words[1:], folder, environment, output.name),
            )
            process.start()
            process.join()
            code = process.exitcode
        else:
            with open(output.name, 'w') as file:
                code = subprocess.run(
                    words,
                    cwd=folder,
                    env=environment,
                    stdout=file,
                    stderr=file,
                ).returncode
        return code, output.read()
