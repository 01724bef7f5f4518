"""Every bar in one go, and what has become slower since the stored table.

    python -m experiments.benchmarks all                                       # against the stored table
    python -m experiments.benchmarks all --out=experiments/tables/benchmarks   # stores anew

Each benchmark has a process of its own, with the sizes of `_SIZES`, and is run `repeats` times, the
benchmarks taking turns. A value is the median of its repeats. All are ratios of one run, of which more is
better, so that a slower machine changes little. A value is `slower` where it lies below the stored one by
more than the noise: four times the larger of the two median deviations, and at least a tenth. The exit
status is 1 then, and where a bar is missed. A command that is cut off goes on with what it has measured.
"""

import math
import statistics
import subprocess
import sys
import time
from pathlib import Path

from experiments.benchmarks import Result
from tfvc import files

OPTIONS = {
    "names": "",  # separated by commas; "" = all of `_SIZES`
    "repeats": 3,
    "against": "experiments/tables/benchmarks.json",  # "" = compare with nothing
    "scale": "read_frames,read_videos",  # the cases of memory; "" = all, an hour and more
    "parts": "results/benchmarks/parts",  # the tables of single runs, until all are there
}
# Benchmark -> its options where they are not its own: one repeat of all takes a quarter of an hour and more.
_SIZES = {
    "startup": {},
    "extraction": {"rounds": 1, "clips": 4},
    "mafnet_extraction": {"rounds": 1, "clips": 1},
    "reading": {"rounds": 2},
    "metrics": {"rounds": 2},
    "step": {"rounds": 3, "lstm_rounds": 1, "lstm_batch": 8},
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
            print(f"{name}, {k + 1} of {options['repeats']}: ", end="", flush=True)
            part = Path(options["parts"]) / f"{name}-{k + 1}.json"
            for row in _measured(name, sizes, part):
                if not 0 < row["value"] < math.inf:
                    part.unlink(missing_ok=True)
                    raise ValueError(f"{name}: {row['name']}: {row['value']}; expected a ratio over 0")
                found.setdefault(f"{name}: {row['name']}", []).append(row)
    gone = [name for name in stored if name.partition(":")[0] in names and name not in found]
    if gone:
        print(f"stored, but measured no more: {'; '.join(gone)}")
    return [result(name, rows, stored.get(name)) for name, rows in found.items()]


def tidy(options):
    """Removes the parts, once the whole table is written."""
    for name in _SIZES:
        for part in Path(options["parts"]).glob(f"{name}-[0-9]*.*"):
            part.unlink()


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
    remedy = "--against= compares with nothing"
    _, rows = _table(path, remedy)
    if not all(row["details"].get("values") for row in rows):
        raise ValueError(f"{path}: a table of one benchmark, expected one of `all`; {remedy}")
    return {row["name"]: row for row in rows}


def _table(path, remedy):
    """Options and lines of a table that `benchmarks.write` has written."""
    tree = files.read_json(path, remedy)
    try:
        for row in tree["results"]:
            numbers = [row["value"], *row["details"].get("values", [])]
            if not isinstance(row["name"], str) or not all(isinstance(n, (int, float)) for n in numbers):
                raise TypeError
        return dict(tree["options"]), tree["results"]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ValueError(f"{path}: no table of a benchmark; {remedy}") from None


def _measured(name, sizes, part):
    """The results of one run of a benchmark in a process of its own, or of an earlier one in `part`."""
    if part.is_file():
        options, rows = _table(part, "remove it")
        if sizes.items() <= options.items():
            print(f"measured already, in {part}")
            return rows
        part.unlink()
    start = time.perf_counter()
    line = [sys.executable, "-m", "experiments.benchmarks", name, f"--out={part.resolve().with_suffix('')}"]
    line += [f"--{key}={value}" for key, value in sizes.items()]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(line, cwd=root, capture_output=True, text=True, check=False)
    print(f"{time.perf_counter() - start:.0f} s")
    if not part.is_file():  # it is also where a bar was missed
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise ValueError(f"{name}: {last.removeprefix('error: ')}")
    return _table(part, "remove it")[1]
