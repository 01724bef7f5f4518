"""`results.jsonl`: a line of JSON for every finished run, appended at once, never changed."""

import json
import os
from pathlib import Path

from tfvc import files

FILE = "results/results.jsonl"
_HOW = "python -m experiments.run NAME"
# What a line must hold; the first five tell whether a run has been done.
_KEYS = {"study": str, "row": str, "overrides": list, "seed": int, "data": dict, "phase": str}
_KEYS |= {"metrics": dict, "seconds": "amount", "commit": str, "versions": dict, "hardware": dict}
_TRAINED = {
    "parameters": "count",
    "curve": dict,
}  # what the line of a trained run holds, a baseline's does not
_OTHERS = {"recipe": str, "choice": list, "steps": "count", "weights": dict}  # where they are there
_LARGEST = 1e18  # beyond it, as NaN: no number that was measured
# Kinds of numbers: type, least, largest, words. Every measure of a study is a share.
_NUMBERS = {
    int: (int, -_LARGEST, _LARGEST, "a whole number"),
    "count": (int, 0, _LARGEST, "a whole number, at least 0"),
    "amount": ((int, float), 0, _LARGEST, "a number, at least 0"),
    "share": ((int, float), 0, 1, "a number from 0 to 1"),
}
_WORDS = {str: "text", list: "a list", dict: "an object"} | {key: row[-1] for key, row in _NUMBERS.items()}


def read(path):
    """The lines of a file, [] where there is none.

    A last line that is not whole, of a run killed while it wrote, is told and left out.

    Raises:
        ValueError: another line is none of ours; its number and what is wrong are named.
    """
    path = Path(path)
    if not path.is_file():
        return []
    *whole, tail = path.read_bytes().split(b"\n")
    lines = []
    for number, text in enumerate(whole, 1):
        try:
            lines.append(_parsed(text))
        except ValueError as error:
            raise _refused(path, number, error) from None
    if tail and (last := _whole(tail)):
        lines.append(last)
    elif tail:
        print(f"{path}: the last line is cut off (a run was killed while it wrote); it is left out")
    return lines


def some(path):
    """The lines of a file that must hold some.

    Raises:
        FileNotFoundError: no file, or no line.
        ValueError: as `read`.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: {files.absent(path)}; make one with {_HOW}, or give another")
    if not (lines := read(path)):
        raise FileNotFoundError(f"{path}: no results yet; make some with {_HOW}")
    return lines


def of_study(path, lines, a_study):
    """A study's lines, which hold all that its page and pictures read.

    Args:
        path: of the file, for the message.
        lines: all of its lines, as `read` gives them.
        a_study: a `study.Study`.

    Raises:
        ValueError: one of them does not; its number and what is wrong are named.
    """
    rows = {row.name for row in a_study.rows}
    for number, line in enumerate(lines, 1):
        if line["study"] == a_study.name:
            try:
                _check_data(line["data"])
                if line["row"] in rows:
                    _check_run(line, a_study)
                elif line["row"] == a_study.baseline_title:
                    _check(line["metrics"], {"test": dict}, "metrics.")
                    there = {m.name: "share" for m in a_study.metrics if m.name in line["metrics"]["test"]}
                    _check(line["metrics"]["test"], there, "metrics.test.")
            except ValueError as error:
                raise _refused(path, number, error) from None
    return find(lines, study=a_study.name)


def append(path, line):
    """Adds a line, in one write, and waits until it is on the disk. A torn last line goes."""
    path = Path(path)
    text = json.dumps(line, allow_nan=True).encode() + b"\n"
    with files.locked(path, "writing to", wait=True), open(path, "a+b") as f:
        f.seek(0)
        end = f.read()
        tail = end[end.rfind(b"\n") + 1 :]
        if tail and _whole(tail):  # only its end of line is missing
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


def _refused(path, number, error):
    why = files.printable(str(error))
    return ValueError(f"{path}: line {number} is no result of a run ({why}); remove the line")


def _whole(text):
    """The line, None where it is cut off."""
    try:
        return _parsed(text)
    except ValueError:
        return None


def _parsed(text):
    """The line; ValueError, in words, where its form is not ours."""
    if not text.strip():
        raise ValueError("blank")
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("not JSON, or nested too deep") from None
    if not isinstance(line, dict):
        raise ValueError("not an object")
    _check(line, _KEYS)
    _check(line, {key: kind for key, kind in _OTHERS.items() if key in line})
    _check(line["data"], {"digest": str}, "data.")
    for name in ("overrides", "choice"):
        _all(line.get(name, []), str, name)
    for name in ("weights", "versions"):
        _all(line.get(name, {}).values(), str, name)
    for name, value in line["hardware"].items():
        if isinstance(value, (dict, list)):
            raise ValueError(f"hardware.{files.printable(name)}: expected text or a number")
    return line


def _check_data(data):
    """Files of each part, or a named set of clips."""
    kinds = {"name": str, "clips": "count", "classes": "count"}
    if "train" in data:
        kinds = dict.fromkeys(("train", "validation", "test"), "count")
    _check(data, kinds, "data.")


def _check_run(line, a_study):
    """Of a row of the study: measures, curve and size are there, and are numbers."""
    _check(line, _TRAINED)
    _check(line["metrics"], {"test": dict, "validation": dict}, "metrics.")
    test, curve, chosen = line["metrics"]["test"], line["curve"], a_study.choose_by
    _check(test, {metric.name: "share" for metric in a_study.metrics}, "metrics.test.")
    unit = "epoch" if "epoch" in curve else "step"
    _check(line["metrics"]["validation"], {chosen: "share", unit: "count"}, "metrics.validation.")
    _check(curve, {unit: list, chosen: list}, "curve.")
    _all(curve[unit], "count", f"curve.{unit}")
    _all(curve[chosen], "share", f"curve.{chosen}")
    if len(curve[unit]) != len(curve[chosen]):
        raise ValueError(f"curve: {len(curve[unit])} {unit}s, {len(curve[chosen])} values of {chosen}")
    if a_study.per_class:
        _check(test, {"training_clips": dict, "classes": list}, "metrics.test.")
        clips, classes = test["training_clips"], test["classes"]
        _all(clips.values(), "count", "metrics.test.training_clips")
        _all(classes, dict, "metrics.test.classes")
        for each in classes:
            _check(each, {"class": str, "f1": "share"}, "metrics.test.classes: ")
        if sorted(clips) != sorted(each["class"] for each in classes):
            raise ValueError("metrics.test: training_clips and classes name different classes")


def _check(tree, kinds, where=""):
    for key, kind in kinds.items():
        if key not in tree:
            raise ValueError(f"{where}{key} is missing")
        _all([tree[key]], kind, where + key)


def _all(values, kind, name):
    """ValueError where a value is of another kind; a number has bounds, and a truth value is none."""
    of, least, largest, _ = _NUMBERS.get(kind, (kind, None, None, ""))
    for value in values:
        fits = isinstance(value, of) and not isinstance(value, bool)
        if not fits or (kind in _NUMBERS and not least <= value <= largest):
            simple = fits or isinstance(value, (str, float, type(None)))
            given = repr(value) if simple else type(value).__name__
            raise ValueError(f"{name}: {given[:40]}, expected {_WORDS[kind]}")
