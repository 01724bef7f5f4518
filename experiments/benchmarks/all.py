"""Every bar in one go, and what has become slower since the stored table.

    python -m experiments.benchmarks all                                       # against the stored table
    python -m experiments.benchmarks all --out=experiments/tables/benchmarks   # stores anew

Each benchmark has a process of its own, with the sizes of `_SIZES`, and is run `repeats` times, the
benchmarks taking turns. A value is the median of its repeats. All are ratios of one run, of which more is
better, so that a slower machine changes little. A value is `slower` where it lies below the stored one by
more than the noise: four times the larger of the two median deviations, and at least a tenth. The exit
status is 1 then, and where a bar is missed.
"""

import json
import math
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from experiments.benchmarks import Result

OPTIONS = {
    "names": "",  # separated by commas; "" = all of `_SIZES`
    "repeats": 3,
    "against": "experiments/tables/benchmarks.json",  # "" = compare with nothing
    "scale": "read_frames,read_videos",  # the cases of memory; "" = all, an hour and more
}
# Benchmark -> its options where they are not its own: one repeat of all takes a quarter of an hour and more.
_SIZES = {
    "startup": {},
    "extraction": {"rounds": 2, "clips": 4},
    "mafnet_extraction": {"rounds": 1, "clips": 1},
    "reading": {"rounds": 2},
    "metrics": {"rounds": 2},
    "step": {"rounds": 3, "lstm_rounds": 1, "lstm_batch": 32},
    "bilinear": {"rounds": 20},
    "elimination": {"rounds": 20, "repeats": 2},
    "scale": {"factors": "1,10", "steps": 0},
}
_LEAST = 0.1  # of a value: less is never called a change


def run(options):
    """Runs each benchmark `repeats` times; returns the list of results.

    Raises:
        ValueError: an unknown name; no repeats; a benchmark that ended with an error.
        FileNotFoundError: no stored table there.
    """
    names = options["names"].split(",") if options["names"] else list(_SIZES)
    for name in names:
        if name not in _SIZES:
            from tfvc.names import suggest

            raise ValueError(suggest("benchmark", name, _SIZES))
    if options["repeats"] < 1:
        raise ValueError(f"repeats={options['repeats']}: expected 1 or more")
    stored, found = _stored(options["against"]), {}
    for k in range(options["repeats"]):
        for name in names:
            sizes = _SIZES[name] | ({"cases": options["scale"]} if name == "scale" else {})
            print(f"{name}, {k + 1} of {options['repeats']}", flush=True)
            for row in _measured(name, sizes):
                if not 0 < row["value"] < math.inf:
                    raise ValueError(f"{name}: {row['name']}: {row['value']}; expected a ratio over 0")
                found.setdefault(f"{name}: {row['name']}", []).append(row)
    gone = [name for name in stored if name.partition(":")[0] in names and name not in found]
    if gone:
        print(f"stored, but measured no more: {'; '.join(gone)}")
    return [result(name, rows, stored.get(name)) for name, rows in found.items()]


def result(name, rows, before=None):
    """One line of the table.

    Args:
        name: benchmark and ratio.
        rows: of this run's repeats, dicts with `value`, `bar` and `note`.
        before: the stored line of the same name, or None.

    Returns:
        `Result`, whose `slower` says whether it fell beyond noise.

    Example:
        >>> before = {"value": 3.0, "details": {"values": [3.0]}}
        >>> result("a", [{"value": 2.0, "bar": None, "note": ""}], before).verdict
        'slower'
    """
    values = [row["value"] for row in rows]
    value = statistics.median(values)
    details = {"values": values, "notes": [row["note"] for row in rows]}
    note = f"{min(values):.3g} to {max(values):.3g}"
    if before is None:
        return Result(name, value, rows[0]["bar"], note, details)
    earlier = before["details"]["values"]
    noise = max(4 * _deviation(values), 4 * _deviation(earlier), _LEAST * before["value"])
    change = value / before["value"] - 1
    note += f"; stored {before['value']:.3g} ({min(earlier):.3g} to {max(earlier):.3g}): {change:+.0%}"
    return Result(name, value, rows[0]["bar"], note, details, slower=before["value"] - value > noise)


def _deviation(values):
    """The median distance from the median: one odd repeat does not move it."""
    middle = statistics.median(values)
    return statistics.median(abs(value - middle) for value in values)


def _stored(path):
    """Name -> line of the stored table."""
    if not path:
        return {}
    if not Path(path).is_file():
        raise FileNotFoundError(f"--against={path}: no such file; --against= compares with nothing")
    return {row["name"]: row for row in json.loads(Path(path).read_text(encoding="utf-8"))["results"]}


def _measured(name, sizes):
    """The results of one run of a benchmark in a process of its own."""
    root = Path(__file__).resolve().parents[2]
    with tempfile.TemporaryDirectory() as folder:
        line = [sys.executable, "-m", "experiments.benchmarks", name, f"--out={folder}/table"]
        line += [f"--{key}={value}" for key, value in sizes.items()]
        done = subprocess.run(line, cwd=root, capture_output=True, text=True, check=False)
        written = Path(folder) / "table.json"  # also where a bar was missed
        if not written.is_file():
            last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            raise ValueError(f"{name}: {last.removeprefix('error: ')}")
        return json.loads(written.read_text(encoding="utf-8"))["results"]
