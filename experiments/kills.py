"""Kills an extraction at random moments, starts it again, and compares every byte with an unbroken one.

    python -m experiments.kills --data=CLIPS             20 times `kill -9` of python -m tfvc.extract
    python -m experiments.kills --data=CLIPS --forked    started by a fork: quick, never killed in the imports

A quarter of the moments is drawn from the time before the first file, the others from the time that the
writing takes, one from each equal part of it. What was killed is started again, and by chance killed again,
until it ends by itself. The folder must then hold what the unbroken one holds: shards, manifest, skipped.csv,
warnings.csv, and nothing else.

With --forked it is then killed before every call by which a file is finished, one after the other: before its
bytes are on the disk, and between that and its name."""

import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from absl import flags

from experiments import children, disk_cases
from tfvc import cli
from tfvc.data.shards import MANIFEST as _LAST  # the first file and the last

_BEFORE = 0.25  # share of the kills before the first file


class Started(subprocess.Popen):
    """A command started afresh. What it prints of errors goes into a file: a pipe would fill."""

    def __init__(self, line):
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  as long as the process is known
        super().__init__(line, stdout=subprocess.DEVNULL, stderr=self._errors)

    def wait(self, timeout=None):
        """Waits for the end; returns `children.Ended`."""
        status = super().wait(timeout)
        self._errors.seek(0)
        return children.Ended(status, "", self._errors.read().decode(errors="backslashreplace"))


def unbroken(start, folder):
    """Extracts twice, as the first warms, and times the second.

    Args:
        start: function of a folder that starts an extraction into it: `children.Child` or `Started`.
        folder: where; not there yet.

    Returns:
        Seconds to the first file, and from there to the last.

    Raises:
        ValueError: it fails.
    """
    for _ in range(2):
        shutil.rmtree(folder, ignore_errors=True)
        process, began = start(folder), time.time()
        _wait_for(process, folder / _LAST)
        first = time.time()
        _end(process)
    return first - began, (folder / _LAST).stat().st_mtime - first


def kill_at_random(start, folder, whole, times, kills, seed, again):
    """Kills extractions.

    Args:
        start: as of `unbroken`.
        folder: where; not there yet.
        whole: what an unbroken one left.
        times: what `unbroken` returned.
        kills: how many times; each has its own part of the time.
        seed: of the moments.
        again: chance that what was started again is killed too.

    Yields:
        `(moment, left, faults)`: in words, what was there then; and what was wrong in the end.

    Raises:
        ValueError: an extraction fails.
    """
    draw, (first, writing) = random.Random(seed), times
    for number in range(kills):
        share, left = (number + draw.random()) / kills, ""
        while not left:
            process, seconds = start(folder), first * share / _BEFORE
            if (
                share > _BEFORE
            ):  # timed from the first file: when that comes hangs on the machine's other work
                _wait_for(process, folder / _LAST)
                seconds = writing * (share - _BEFORE) / (1 - _BEFORE)
            since = time.time()
            while process.poll() is None and time.time() < since + seconds:
                time.sleep(0.001)
            _kill(process)
            left = _left(folder)
            if not left:  # done already: this one is faster than the unbroken one was
                if share > _BEFORE:
                    writing = min(writing, (folder / _LAST).stat().st_mtime - since)
                else:
                    first *= 0.9
                shutil.rmtree(folder)
        moment = f"{seconds:.2f} s after the {'first file' if share > _BEFORE else 'start'}"
        while draw.random() < again:
            process = start(folder)
            time.sleep((first + writing) * draw.random())
            _kill(process)
        _end(start(folder))
        yield moment, left, _faults(whole, folder)


def kill_at_calls(work, folder, whole):
    """Kills extractions before each call by which a file is finished, one call each.

    Args:
        work: function of a folder that extracts into it, for a `children.Child`.
        folder, whole: as of `kill_at_random`.

    Yields:
        What was wrong in the end, for each kill.

    Raises:
        ValueError: an extraction fails.
    """
    for moment in itertools.count(1):
        child = children.Child(lambda n=moment: (_die_at(n), work(folder)))
        if child.wait().status != -signal.SIGKILL:
            _end(child)
            return shutil.rmtree(folder)
        _end(children.Child(lambda: work(folder)))
        yield _faults(whole, folder)


def _wait_for(process, path):
    while process.poll() is None and not path.is_file():
        time.sleep(0.001)


def _die_at(moment):
    """Lets this process die before its n-th call that a file is finished by."""
    count = itertools.count(1)

    def dying(function):
        def call(*arguments, **options):
            if next(count) == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return call

    os.fsync, os.replace = dying(os.fsync), dying(os.replace)


def _kill(process):
    if process.poll() is None:
        process.kill()
    process.wait()


def _end(process):
    ended = process.wait()
    if process.returncode:
        last = (ended.err.strip().splitlines() or [f"exit status {process.returncode}"])[-1]
        raise ValueError(f"the extraction failed: {last.removeprefix('error: ')}")


def _left(folder):
    """What a killed extraction left, in words; "" where it was done."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    if _LAST not in names:
        return "nothing written"
    if b'"complete": true' in (folder / _LAST).read_bytes():
        return ""
    count = sum(name.startswith("shard-") and name.endswith(".json") for name in names)
    half = sum(name.endswith(".part") for name in names)
    lists = " and the lists" * ("warnings.csv" in names)
    return f"{count} shards{lists} written, {half} files half-written"


def _faults(whole, folder):
    """What is wrong with a folder that was killed and ended; it is removed."""
    faults = list(disk_cases.same_files(whole, folder))
    faults += [f"{path.name} is left" for path in folder.iterdir() if path.name.startswith(".")]
    shutil.rmtree(folder)
    return faults


def main(argv=None):
    def run(arguments):
        given = [f"--data={arguments.data}", *(f"--set={text}" for text in arguments.set)]
        if arguments.forked:
            children.prepare()

        def work(folder):
            children.command("tfvc.extract", *given, f"--workdir={folder}")()

        def start(folder):
            if arguments.forked:
                return children.Child(lambda: work(folder))
            line = [sys.executable, "-m", "tfvc.extract", *given, f"--workdir={folder}"]
            return Started(line)

        bad = []
        with tempfile.TemporaryDirectory(prefix="tfvc-kills-") as root:
            whole, folder = Path(root, "whole"), Path(root, "records")
            times = unbroken(start, whole)
            print(
                "unbroken: {:.2f} s to the first file, {:.2f} s more to the last".format(*times), flush=True
            )
            options = arguments.kills, arguments.seed, arguments.again
            for moment, left, faults in kill_at_random(start, folder, whole, times, *options):
                said = "; ".join(faults) or "then the same bytes"
                print(f"killed {moment}, {left}: {said}", flush=True)
                bad += faults
            if arguments.forked:
                found = list(kill_at_calls(work, folder, whole))
                faults = list(itertools.chain(*found))
                print(
                    f"killed before each of {len(found)} calls: {'; '.join(faults) or 'then the same bytes'}"
                )
                bad += faults
        print(f"{arguments.kills} kills at random, {'other' if bad else 'the same'} bytes")
        return bool(bad)

    values = flags.FlagValues()
    flags.DEFINE_string("data", "", "clips, as tfvc.extract takes them; empty: the embedded demo set", values)
    flags.DEFINE_multi_string("set", [], "recipe field, as tfvc.extract takes it; repeatable", values)
    flags.DEFINE_boolean("forked", False, "fork a process that has TensorFlow imported", values)
    cli.number("kills", 20, "how many", 1, 10_000, values)
    cli.number("again", 0.25, "chance that what was started again is killed again", 0.0, 0.9, values)
    cli.number("seed", 0, "of the moments", 0, 2**32 - 1, values)
    cli.launch("experiments.kills", values, __doc__, run, argv)


if __name__ == "__main__":
    main()
