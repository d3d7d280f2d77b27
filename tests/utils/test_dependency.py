"""What is kept off standard output, and what is not."""

import subprocess
import sys

from helpers import ROOT

SCRIPT = """
from mmengine.logging import MMLogger, print_log
from saim_mm.utils.dependency import quietly
with quietly():
    print('printed within')
    print_log('said within', 'current')
    print_log('broken within', 'current', level=40)
print('printed after')
print_log('said after', 'current')
"""


def test_errors_are_shown_within():
    """Also those of a logger that is made within; the rest is put back."""
    done = subprocess.run(
        [sys.executable, '-c', SCRIPT],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert 'broken within' in done.stderr
    assert 'within' not in done.stdout
    assert 'printed after' in done.stdout and 'said after' in done.stdout
    assert 'said within' not in done.stderr
