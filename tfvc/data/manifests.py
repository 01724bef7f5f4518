"""Manifests, CSV or JSONL: `id, path, labels, text` and, if known, `group` and `split`."""

import csv
import io
import json
import os
import re
from pathlib import Path

_LONGEST = 131072  # characters of a field: a hostile file must not eat the machine
_HALF = re.compile("[\ud800-\udfff]")  # JSON can say it, UTF-8 cannot
_BREAK = re.compile(r"[\x00\r\n]")
_NAMES = {"video": "path", "label": "labels", "description": "text"}
_COLUMNS = ("id", "path", "labels", "text", "group", "split")
_PARTS = {p: p for p in ("train", "validation", "test", "")} | {"val": "validation", "valid": "validation"}


def read(path, labelled=True, media=True):
    """Reads a manifest.

    A CSV file has a header; labels are separated by `;`. A JSONL file has one object a line; its
    labels may be a list. `video`, `label` and `description` are taken for `path`, `labels` and `text`.
    A relative path starts at the manifest's folder. Where no label is needed, as to predict, a clip without
    an id is called by its path without the extension.

    Args:
        path: a `.csv` or `.jsonl` file, UTF-8.
        labelled: whether each clip needs a label.
        media: whether each clip needs its file; without, a path may even be left out.

    Returns:
        list of dicts `{id, path, labels, text, group, part}`, the keywords of `datasets.Clip`.

    Raises:
        ValueError: one listing of every fault, each `file:line: reason`.
    """
    path = Path(path)
    text, faults = _decode(path)
    needed = [*["id"] * (labelled or not media), *["path"] * media, *["labels"] * labelled]
    rows = list((_csv if path.suffix.lower() == ".csv" else _jsonl)(path, text, needed, faults))
    clips, first = [], {}
    for line, row in rows:
        reasons = _faults_of(row, path.parent, needed)
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


def is_name(text):
    r"""Whether a text can be the name of a file: in no folder, no NUL, no line break.

    Example:
        >>> is_name("aBc-1"), is_name("../aBc"), is_name("a\0")
        (True, False, False)
    """
    return Path(text).name == text and not _BREAK.search(text)


def _decode(path):
    raw = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
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
        ("labels", "".join(row["labels"])),
        ("text", row["text"]),
        ("group", row["group"]),
    )
    reasons += [f"{k}: a line break or a NUL in it" for k in ("id", "path") if _BREAK.search(row[k])]
    reasons += [f"{k}: half a surrogate pair is no text" for k, v in words if _HALF.search(v)]
    reasons += [f"{k}: over {_LONGEST} characters" for k in ("id", "text", "group") if len(row[k]) > _LONGEST]
    return reasons


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
    return f"two columns for {both}: {', '.join(k for k in present if _own(k) == both)}" if both else ""


def _csv(path, text, needed, faults):
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header, line = None, 1
    try:
        for fields in reader:
            start, line = line, reader.line_num + 1  # a quoted field may span lines
            if not any(f.strip() for f in fields):
                continue
            if header is None:
                header = [f.strip().lower() for f in fields]
                missing = _missing(header, needed)
                if missing:
                    kinetics = "; Kinetics' list? --set=data.kind=kinetics_sounds" * ("youtube_id" in header)
                    has = f"the header has: {', '.join(header)}{kinetics}"
                    faults.append((start, f"no column {', '.join(missing)}; {has}"))
                    return
                if twice := _twice(header):
                    faults.append((start, twice))
                    return
            elif len(fields) != len(header):
                faults.append((start, f"{len(fields)} fields; the header has {len(header)}"))
            else:
                yield start, _row(dict(zip(header, fields, strict=True)))
    except csv.Error as error:
        faults.append((line, f"not CSV ({error})"))


def _jsonl(path, text, needed, faults):
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            tree = json.loads(line)
        except (ValueError, RecursionError) as error:  # also a number of 5,000 digits
            faults.append((number, f"not JSON ({error})"))
            continue
        if not isinstance(tree, dict):
            faults.append((number, f"expected an object, found {type(tree).__name__}"))
            continue
        missing = _missing(tree, needed)
        odd = [k for k, v in tree.items() if isinstance(v, (list, dict)) and not _may_be_list(k, v)]
        if missing:
            faults.append((number, f"no {', '.join(missing)}; the line has: {', '.join(tree)}"))
        elif twice := _twice(tree):
            faults.append((number, twice))
        elif odd:
            faults.append((number, f"{odd[0]}: expected text, found {type(tree[odd[0]]).__name__}"))
        else:
            yield number, _row(tree)


def _may_be_list(name, value):
    return isinstance(value, list) and _own(name) == "labels" and all(isinstance(v, str | int) for v in value)
