"""Manifests, CSV or JSONL: `id, path, labels, text` and, if known, `group` and `split`."""

import csv
import io
import json
import os
import re
from collections import Counter
from pathlib import Path

from tfvc import files
from tfvc.data import disaster

_LONGEST = 131072  # characters of a field: a hostile file must not eat the machine
_SHOWN = 80  # characters of a value in a message
_HALF = re.compile("[\ud800-\udfff]")  # JSON can say it, UTF-8 cannot
_BREAK = re.compile(r"[\x00\r\n]")
_NAMES = {"video": "path", "label": "labels", "description": "text"}
_COLUMNS = ("id", "path", "labels", "text", "group", "split")
_PARTS = {p: p for p in ("train", "validation", "test", "")} | {"val": "validation", "valid": "validation"}


def read(path, labelled=True, media=True, concepts=False):
    """Reads a manifest.

    A CSV file has a header; labels are separated by `;`, and what is quoted may hold line breaks. A JSONL
    file has one object a line; its labels may be a list. `video`, `label` and `description` are taken for
    `path`, `labels` and `text`. A relative path starts at the manifest's folder. Where no label is needed, as
    to predict, a clip without an id is called by its path without the extension.

    Labels are names, or all of them numbers. A clip may have no text, and no sound. One video may stand in
    several lines, under an id of its own each, with another text or other labels.

    Args:
        path: a `.csv` or `.jsonl` file, UTF-8.
        labelled: whether each clip needs a label.
        media: whether each clip needs its file; without, a path may even be left out.
        concepts: whether the labels are those of `tfvc.data.disaster`; they come back as its names.

    Returns:
        list of dicts `{id, path, labels, text, group, part}`, the keywords of `datasets.Clip`.

    Raises:
        ValueError: one listing of every fault, each `file:line: reason`.
    """
    path = Path(path)
    text, faults = _decode(path)
    needed = [*["id"] * (labelled or not media), *["path"] * media, *["labels"] * labelled]
    rows = list((_csv if path.suffix.lower() == ".csv" else _jsonl)(path, text, needed, faults))
    faults += _mixed(rows) if labelled else []
    clips, first = [], {}
    for line, row in rows:
        reasons = _faults_of(row, path.parent, needed)
        if concepts and labelled:
            reasons += _name_concepts(row)
        if not row["id"] and "id" not in needed:
            stem = os.path.splitext(row["path"])[0]
            row["id"] = row["path"] if stem in first else stem  # two may differ in the extension alone
        if row["id"] and row["id"] in first:
            reasons.append(f"id {row['id']!r} stands in line {first[row['id']]} already")
        first.setdefault(row["id"], line)
        faults += [(line, reason) for reason in reasons]
        if not reasons:
            labels = tuple(row["labels"])
            file = str(path.parent / row["path"]) if row["path"] else ""
            clips.append(row | {"path": file, "labels": labels, "part": _PARTS[row["split"]]})
    if not rows and not faults:
        faults.append((1, "no clips"))
    if faults:
        listing = "\n".join(f"{path}:{line}: {reason}" for line, reason in sorted(faults))
        raise ValueError(f"{len(faults)} faults in a manifest\n{listing}" if len(faults) > 1 else listing)
    return [{k: v for k, v in clip.items() if k != "split"} for clip in clips]


def in_order(labels):
    """Labels sorted: by name, or as numbers where they are numbers.

    Example:
        >>> in_order({"10", "9"}), in_order({"b", "a", "10"})
        (['9', '10'], ['10', 'a', 'b'])
    """
    numbers = all(map(_is_number, labels))  # of any length: int() reads no more than 4,300 digits
    return sorted(labels, key=lambda s: (len(s.lstrip("0")), s.lstrip("0"), s) if numbers else s)


def is_name(text):
    r"""Whether a text can be the name of a file: in no folder, no NUL, no line break.

    Example:
        >>> is_name("aBc-1"), is_name("../aBc"), is_name("a\0")
        (True, False, False)
    """
    return Path(text).name == text and not _BREAK.search(text)


def _decode(path):
    raw = files.read_whole(path).removeprefix(b"\xef\xbb\xbf")
    try:
        return raw.decode("utf-8"), []
    except UnicodeDecodeError:
        faults = []
        for number, line in enumerate(raw.split(b"\n"), 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                faults.append((number, f"not UTF-8 (byte 0x{line[error.start]:02x}); save the file as UTF-8"))
        return raw.decode("utf-8", "replace"), faults


def _faults_of(row, folder, needed):
    reasons = [f"no {name.removesuffix('s')}" for name in needed if not row[name]]
    whole = row["path"] and not _BREAK.search(row["path"])
    if "path" in needed and whole and not _is_file(folder / row["path"]):
        reasons.append(f"{row['path']}: no such file (paths start at {folder})")
    if row["split"] not in _PARTS:
        reasons.append(f"split {row['split']!r}; expected train, validation or test")
    words = (
        ("id", row["id"]),
        ("labels", ";".join(row["labels"])),
        ("text", row["text"]),
        ("group", row["group"]),
    )
    breaks = (("id", row["id"]), ("path", row["path"]), ("labels", "".join(row["labels"])))
    reasons += [f"{k}: a line break or a NUL in it" for k, v in breaks if _BREAK.search(v)]
    reasons += [f"{k}: half a surrogate pair is no text" for k, v in words if _HALF.search(v)]
    reasons += [f"{k}: over {_LONGEST} characters" for k, v in words if len(v) > _LONGEST]
    return reasons


def _mixed(rows):
    """Faults `(line, reason)` where some labels are numbers and some are names: those of the fewer lines."""
    found = {True: {}, False: {}}  # number or name -> line -> its first label of that sort
    for line, row in rows:
        for label in row["labels"]:
            found[_is_number(label)].setdefault(line, label)
    if not all(found.values()):
        return []
    odd = len(found[True]) < len(found[False])
    there, label = next(iter(found[not odd].items()))
    sort, other = ("number", "name") if odd else ("name", "number")
    why = f"line {there} has the {other} {_short(label)}; expected all names or all numbers"
    return [(line, f"label {_short(label)} is a {sort}, and {why}") for line, label in found[odd].items()]


def _name_concepts(row):
    """Turns the labels of a row into concepts; reasons where one is none."""
    meant = {label: disaster.concept(label) for label in row["labels"]}
    row["labels"] = list(dict.fromkeys(filter(None, meant.values())))
    unknown = [label for label, name in meant.items() if name is None]
    return [f"label {_short(label)} is no concept; {disaster.EXPECTED}" for label in unknown]


def _is_number(label):
    return label.isascii() and label.isdecimal()


def _short(text):
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")


def _listed(names):
    """Names of columns, for a message."""
    return files.printable(", ".join(names)[: 4 * _SHOWN])


def _is_file(path):
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, or with a NUL in it
        return False


def _own(name):
    """Our name of a column."""
    name = name.strip().lower()
    return _NAMES.get(name, name)


def _row(values):
    """Texts under their own names, stripped; absent ones empty."""
    named = {_own(k): v for k, v in values.items()}
    row = {k: str(named.get(k, "") if named.get(k) is not None else "").strip() for k in _COLUMNS}
    labels = named.get("labels")
    labels = labels if isinstance(labels, list) else row["labels"].split(";")
    row["labels"] = list(dict.fromkeys(s for s in (str(label).strip() for label in labels) if s))
    row["split"] = row["split"].lower()
    return row


def _missing(present, needed):
    known = {_own(k) for k in present}
    return [k for k in needed if k not in known]


def _twice(present):
    """Two columns that mean the same, for a fault; "" if there are none."""
    known = [_own(k) for k in present]
    both = next((k for k in known if k in _COLUMNS and known.count(k) > 1), "")
    return f"two columns for {both}: {_listed(k for k in present if _own(k) == both)}" if both else ""


def _csv(path, text, needed, faults):
    header = None
    for line, fields in _records(text, faults):
        if not any(f.strip() for f in fields):
            continue
        if header is None:
            header = [f.strip().lower() for f in fields]
            missing = _missing(header, needed)
            if missing:
                kinetics = "; Kinetics' list? --set=data.kind=kinetics_sounds" * ("youtube_id" in header)
                has = f"the header has: {_listed(header)}{kinetics}"
                faults.append((line, f"no column {', '.join(missing)}; {has}"))
                return
            if twice := _twice(header):
                faults.append((line, twice))
                return
        elif len(fields) != len(header):
            faults.append((line, f"{len(fields)} fields; the header has {len(header)}"))
        else:
            yield line, _row(dict(zip(header, fields, strict=True)))


def _records(text, faults):
    """`(its first line, fields)` of each record of a CSV file; broken ones are faults, passed over."""
    lines = list(io.StringIO(text, newline=""))
    before, reader = 0, csv.reader(iter(lines), strict=True)
    while before + reader.line_num < len(lines):
        start = before + reader.line_num + 1  # a quoted field may span lines
        try:
            yield start, next(reader)
        except csv.Error as error:
            faults.append((start, f"not CSV ({error})"))
            if before + reader.line_num == len(lines):  # a quote without its other half took all the rest
                before, reader = start, csv.reader(iter(lines[start:]), strict=True)


def _jsonl(path, text, needed, faults):
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            tree = json.loads(line, object_pairs_hook=_unique)
        except (ValueError, RecursionError) as error:  # also a number of 5,000 digits
            faults.append((number, f"not JSON ({error})"))
            continue
        if not isinstance(tree, dict):
            faults.append((number, f"expected an object, found {type(tree).__name__}"))
            continue
        missing = _missing(tree, needed)
        odd = [k for k, v in tree.items() if isinstance(v, (list, dict)) and not _may_be_list(k, v)]
        if missing:
            faults.append((number, f"no {', '.join(missing)}; the line has: {_listed(tree)}"))
        elif twice := _twice(tree):
            faults.append((number, twice))
        elif odd:
            faults.append((number, f"{_listed(odd[:1])}: expected text, found {type(tree[odd[0]]).__name__}"))
        else:
            yield number, _row(tree)


def _unique(pairs):
    """An object of JSON; json.loads itself would keep the last of two values."""
    tree = dict(pairs)
    if len(tree) < len(pairs):
        count = Counter(key for key, _ in pairs)
        raise ValueError(f"two values for {_short(next(key for key, n in count.items() if n > 1))}")
    return tree


def _may_be_list(name, value):
    return isinstance(value, list) and _own(name) == "labels" and all(type(v) in (str, int) for v in value)
