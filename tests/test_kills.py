"""An extraction killed with 9 ends with the bytes of one that was not: see `experiments.kills`."""

import re
import subprocess
import sys

import pytest
from conftest import ROOT

from experiments import disk_cases, kills

GRAPPLER = True  # see conftest
SMALL = ("backbone.name=frames", "backbone.size=32,32", "backbone.batch_size=4", "data.shard_clips=9")


def test_killed_at_random_and_before_each_file_is_whole_it_goes_on_to_the_same_bytes(tmp_path):
    clips = disk_cases.Given(tmp_path).clips
    given = [f"--data={clips}", *(f"--set={text}" for text in SMALL)]
    line = [sys.executable, "-m", "experiments.kills", *given, "--forked", "--kills=3"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    _, *killed, calls, last = done.stdout.splitlines()
    assert len(killed) == 3 and last == "3 kills at random, the same bytes"
    assert all(re.match(r"killed \d+\.\d\d s after the .*: then the same bytes", text) for text in killed)
    assert sum("after the first file" in text for text in killed) >= 2
    # Two calls a file: manifest, two shards with their entries, two lists, the manifest once more.
    assert calls == "killed before each of 16 calls: then the same bytes"


@pytest.mark.parametrize(
    "code, message",
    [
        (
            "import sys; print('warning\\nerror: /none: no such folder', file=sys.stderr); sys.exit(1)",
            "/none: no",
        ),
        ("import sys; sys.exit(3)", "exit status 3"),
    ],
)
def test_why_an_extraction_failed_is_passed_on(tmp_path, code, message):
    with pytest.raises(ValueError, match=f"^the extraction failed: {message}"):
        kills.unbroken(lambda folder: kills.Started([sys.executable, "-c", code]), tmp_path / "records")
