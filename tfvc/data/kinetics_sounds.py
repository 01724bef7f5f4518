"""Kinetics-Sounds: the classes of Kinetics that can be told by eye and by ear.

The authors of the set (Arandjelovic and Zisserman 2017) name 34 classes of the first Kinetics; later editions
renamed and dropped some, and the paper of MAFnet counts 32 without naming them. So no list is shipped: which
classes are meant is said by a file, `data.classes`, one class a line.

    label,youtube_id,time_start,time_end,split            a CSV file of Kinetics
    <label>/<youtube_id>_<start>_<end>.mp4                videos, as the usual downloaders name them
    <youtube_id>.mp4                                      ... or whole; all at any depth, as train/<label>/...
"""

import csv
import os
from collections import Counter, defaultdict
from pathlib import Path

from tfvc.data import classes, manifests

_COLUMNS = ("label", "youtube_id", "time_start", "time_end", "split")
_PARTS = {"train": "train", "validate": "validation", "validation": "validation", "val": "validation"}
_PARTS |= {"test": "test", "": ""}
_LATEST = 10**6  # seconds; the names of the videos give them six digits
_WHY = (
    "the paper counts 32 classes and names none, and the 34 of the original set are spelt otherwise in later "
    "editions of Kinetics"
)


def read(source, wanted, media, lists=""):
    """Reads Kinetics' CSV files and finds the videos of the wanted classes.

    Args:
        source: a CSV file with the videos in its folder, or the folder of the videos.
        wanted: the file of class names.
        media: suffixes of the files that are looked for; None = no file is looked for.
        lists: the folder of the CSV files; "" = that of the videos.

    Returns:
        `(clips, notes)`: dicts `{id, path, labels, group, part}`, the keywords of `datasets.Clip`, and lines
        for the user. A clip is called `<youtube_id>_<start>_<end>`; its group is the video.

    Raises:
        FileNotFoundError: no CSV file, or not one video of these classes.
        ValueError: no list of classes, an unknown class, or a fault in a CSV file, by its line.
    """
    if not wanted:
        raise ValueError(
            f"data.kind=kinetics_sounds needs data.classes, a file with one class a line: {_WHY}"
        )
    source = Path(source)
    root = source.parent if source.is_file() else source
    rows, notes = _tables([source] if source.is_file() else sorted(Path(lists or source).glob("*.csv")), root)
    if not rows:
        raise ValueError(f"{source}: Kinetics' lists hold no clip; expected lines {','.join(_COLUMNS)}")
    known = {label for label, *_ in rows}
    keep = classes.chosen(wanted, known)
    videos = _index(root, media) if media else {}
    count, absent, clips = Counter(), [], []
    for label, video, start, end, part in rows:
        if label not in keep:
            continue
        cut = f"{video}_{start:06d}_{end:06d}"
        count[cut] += 1
        path = _find(videos, label, (cut, video))
        if not path:
            absent.append(f"{label}/{cut}.mp4")
        clip = {"id": cut if count[cut] == 1 else f"{cut}#{count[cut]}", "labels": (label,), "group": video}
        clips.append(clip | {"path": str(path or root / absent[-1]), "part": part})
    if media and len(absent) == len(clips):
        raise FileNotFoundError(
            f"{root}: not one of {len(clips)} videos is there; expected {absent[0]} or "
            f"{clips[0]['group']}.mp4, at any depth"
        )
    if media and absent:
        notes.append(
            f"Kinetics: {len(absent)} of {len(clips)} videos are not there ({absent[0]} the first): skipped "
            "when extracted"
        )
    again = sum(n - 1 for n in count.values())
    if again:
        notes.append(f"Kinetics: {again} clips stand in the lists more than once; the later ids end in #2")
    notes.append(f"{wanted}: {len(keep)} of {len(known)} classes, {len(clips)} of {len(rows)} clips")
    return clips, notes


def _tables(paths, root):
    """Rows `(label, youtube_id, start, end, part)` of all files, and lines on what was passed over."""
    rows, notes, read = [], [], []
    for path in paths:
        with open(path, encoding="utf-8-sig", newline="") as f:
            reader = csv.reader(f, strict=True)
            try:
                found = _table(path, reader)
            except csv.Error as error:
                raise ValueError(f"{path}:{reader.line_num}: not CSV ({error})") from None
            except UnicodeDecodeError:
                raise ValueError(f"{path}: not UTF-8; expected a CSV file of Kinetics") from None
        if found is None:
            notes.append(f"Kinetics: {path.name} has not the columns {','.join(_COLUMNS)} and is not read")
            continue
        rows += found
        read.append(path)
    if not read:
        hint = "; data.lists names another folder" if not notes else f" ({notes[0].split(': ')[1]})"
        raise FileNotFoundError(f"{root}: no CSV file of Kinetics, {','.join(_COLUMNS)}{hint}")
    return rows, notes


def _table(path, reader):
    """The rows of one file; None where it has other columns."""
    header = [name.strip().lower() for name in next(reader, [])]
    if not set(_COLUMNS) <= set(header):
        return None
    columns, rows = [header.index(name) for name in _COLUMNS], []
    for values in reader:
        if not any(values):
            continue
        line = f"{path}:{reader.line_num}"
        if len(values) != len(header):
            raise ValueError(f"{line}: {len(values)} fields; the header has {len(header)}")
        label, video, start, end, part = (values[i].strip() for i in columns)
        if not (_is_time(start) and _is_time(end)):
            times = f"{start[:40]!r}, {end[:40]!r}"
            raise ValueError(f"{line}: times {times}; expected seconds, 0 to {_LATEST - 1}")
        start, end = int(float(start)), int(float(end))
        if part.lower() not in _PARTS:
            raise ValueError(f"{line}: split {part!r}; expected train, validate or test")
        if not label or not video:
            raise ValueError(f"{line}: label {label[:80]!r}, youtube_id {video[:80]!r}; expected both")
        if not manifests.is_name(video):
            raise ValueError(f"{line}: {video[:80]!r} is no video id")
        rows.append((label, video, start, end, _PARTS[part.lower()]))
    return rows


def _is_time(text):
    try:
        return 0 <= float(text) < _LATEST
    except ValueError:
        return False


def _index(root, media):
    """Name without suffix -> files of that name, at any depth."""
    found = defaultdict(list)
    for folder, below, names in os.walk(root, followlinks=True):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in sorted(names):
            stem, suffix = os.path.splitext(name)
            if suffix.lower() in media:
                found[stem].append(Path(folder, name))
    return found


def _find(videos, label, names):
    """The file of a clip: by the first name that is there, in its class folder before elsewhere."""
    for name in names:
        found = videos.get(name, [])
        in_class = [p for p in found if p.parent.name.replace("_", " ") == label.replace("_", " ")]
        if found:
            return (in_class or found)[0]
    return None
