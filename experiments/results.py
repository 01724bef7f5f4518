"""`results.jsonl`: a line of JSON for every finished run, appended at once, never changed."""

import json
import os
from pathlib import Path

from tfvc import files

FILE = "results/results.jsonl"
# What a line must hold; the first five tell whether a run has been done.
_KEYS = {"study": str, "row": str, "overrides": list, "seed": int, "data": dict, "phase": str}
_KEYS |= {"metrics": dict, "seconds": float, "commit": str, "versions": dict, "hardware": dict}


def read(path):
    """The lines of a file, [] where there is none.

    A last line that is not whole, of a run killed while it wrote, is told and left out.

    Raises:
        ValueError: another line is none of ours; its number is named.
    """
    path = Path(path)
    if not path.is_file():
        return []
    *whole, tail = path.read_bytes().split(b"\n")
    lines = []
    for number, text in enumerate(whole, 1):
        lines.append(_parsed(text))
        if lines[-1] is None:
            raise ValueError(f"{path}: line {number} is no result of a run; remove the line")
    if tail and (last := _parsed(tail)):
        lines.append(last)
    elif tail:
        print(f"{path}: the last line is cut off (a run was killed while it wrote); it is left out")
    return lines


def append(path, line):
    """Adds a line, in one write, and waits until it is on the disk. A torn last line goes."""
    path = Path(path)
    text = json.dumps(line, allow_nan=True).encode() + b"\n"
    with files.locked(path, "writing to", wait=True), open(path, "a+b") as f:
        f.seek(0)
        end = f.read()
        tail = end[end.rfind(b"\n") + 1 :]
        if tail and _parsed(tail):  # only its end of line is missing
            text = b"\n" + text
        elif tail:
            f.truncate(len(end) - len(tail))
        f.write(text)
        f.flush()
        os.fsync(f.fileno())


def find(lines, **wanted):
    """The lines with these values.

    Example:
        >>> find([{"row": "a", "seed": 0}, {"row": "a", "seed": 1}], row="a", seed=1)
        [{'row': 'a', 'seed': 1}]
    """
    return [line for line in lines if all(line.get(key) == value for key, value in wanted.items())]


def best(lines, metric):
    """The line with the highest metric of its validation part, the first of equals; None without lines."""
    return max(lines, key=lambda line: line["metrics"]["validation"][metric], default=None)


def _parsed(text):
    try:
        line = json.loads(text)
    except ValueError:
        return None
    ours = isinstance(line, dict) and all(isinstance(line.get(key), kind) for key, kind in _KEYS.items())
    return line if ours and "digest" in line["data"] else None
