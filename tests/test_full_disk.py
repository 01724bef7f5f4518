"""Commands that run out of room say so, leave what was there, and go on: experiments.full_disk."""

import re
import subprocess
import sys

import pytest
from conftest import ROOT

from experiments import full_disk

# An export is not loaded in a process of its own here: that costs five seconds each time.
CODE = """
import sys
from experiments import full_disk
from tfvc import export
export.differences = lambda *given: {}
full_disk.main(sys.argv[1:])
"""


def swept(*flags):
    """Names of the commands that ended with an error, once each time.

    They run on a small disk or, where none can be mounted, under a limit on the size of a file.
    """
    command = [*(full_disk.space() or []), sys.executable, "-c", CODE, *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    *lines, last = done.stdout.splitlines()
    assert last == "no faults"
    return [line.split()[0] for line in lines if re.search(": error: .*/", line)]


@pytest.mark.parametrize("by", ["auto", pytest.param("limit", marks=pytest.mark.slow)])
def test_an_extraction_goes_on_when_there_is_room(by):
    assert swept("extract", "--places=2", f"--by={by}").count("extract") >= 2


@pytest.mark.slow
def test_a_training_and_an_export_go_on_when_there_is_room():
    assert {"train", "export"} == set(swept("train", "export", "--places=1"))
