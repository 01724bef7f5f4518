"""AVE (Tian et al. 2018): videos of 10 s with one class each, from its authors' text files.

    Annotations.txt                           class&videoid&quality&start&end, with a header line or without
    AVE/<videoid>.mp4                         the videos; or beside Annotations.txt
    trainSet.txt valSet.txt testSet.txt       the split, lines of the same form
    train_order.h5 val_order.h5 test_order.h5 the same as row numbers of Annotations.txt, counted from 0

45 videos are annotated more than once, each time as another class, and 18 of them stand in several parts of
the split. All rows are kept: the first clip of a video is called `<videoid>`, the next `<videoid>#2`; the
video is their group, so that `data.split=group` keeps them together.
"""

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from tfvc import files
from tfvc.data import manifests

ANNOTATIONS = "Annotations.txt"
_NAMES = {"train": "train", "validation": "val", "test": "test"}  # part -> how the files call it
_FORM = "class&videoid&quality&start&end"


def is_ave(folder):
    """Whether a folder is AVE's."""
    return (Path(folder) / ANNOTATIONS).is_file()


def read(root, media=None):
    """Reads AVE's folder.

    Args:
        root: the folder of Annotations.txt.
        media: suffixes of the files that are looked for; None = no file is looked for, as for ready features.

    Returns:
        `(clips, notes)`: dicts `{id, path, labels, group, part}` in the order of Annotations.txt, the
        keywords of `datasets.Clip`; and lines for the user: which split is used, videos that are annotated
        twice, videos that are not there.

    Raises:
        FileNotFoundError: no Annotations.txt, a split of which one file is missing, or not one video.
        ValueError: a line or a row number that cannot be; each is named.
    """
    root = Path(root)
    rows = list(_rows(root / ANNOTATIONS))
    if not rows:
        raise ValueError(f"{root / ANNOTATIONS}: no clips; expected lines {_FORM}")
    parts, notes = _parts(root, rows)
    videos = _videos(root, media) if media else {}
    count, clips = Counter(), []
    taken = {video for _, _, video, _ in rows}  # a video may itself be called aaa#2
    for (_, label, video, _), part in zip(rows, parts, strict=True):
        count[video] += 1
        id = video if count[video] == 1 else _another(video, count[video], taken)
        path = str(videos.get(video, root / "AVE" / f"{video}.mp4"))
        clips.append({"id": id, "path": path, "labels": (label,), "group": video, "part": part})
    notes += _repeated(clips, count)
    absent = [video for video in count if video not in videos]
    if media and len(absent) == len(count):
        raise FileNotFoundError(
            f"{root}: not one of {len(count)} videos is there; expected AVE/{absent[0]}.mp4"
        )
    if media and absent:
        first = f"AVE/{absent[0]}.mp4 the first"
        notes.append(
            f"AVE: {len(absent)} of {len(count)} videos are not there ({first}): skipped when extracted"
        )
    return clips, notes


def _rows(path):
    """`(line number, class, videoid, rest of the line)` of each line but the header."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected AVE's folder, with lines {_FORM}")
    try:
        lines = files.read_whole(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not UTF-8; expected lines {_FORM}") from None
    for number, line in enumerate(lines, 1):
        values = [value.strip() for value in line.split("&")]
        if not line.strip() or (number == 1 and len(values) == 5 and values[1].lower() == "videoid"):
            continue
        if len(values) != 5 or not values[0] or not values[1]:
            raise ValueError(f"{path}:{number}: {line[:80]!r}; expected {_FORM}")
        if not manifests.is_name(values[1]):
            raise ValueError(f"{path}:{number}: {values[1][:80]!r} is no video id")
        yield number, values[0], values[1], "&".join(values[2:])


def _another(video, number, taken):
    """The id of a further row of a video, which no other clip has."""
    while f"{video}#{number}" in taken:
        number += 1
    taken.add(f"{video}#{number}")
    return f"{video}#{number}"


def _parts(root, rows):
    """The part of each row, and lines on where that stands."""
    ways = {
        way: {part: root / form.format(name) for part, name in _NAMES.items()}
        for way, form in (("text", "{}Set.txt"), ("order", "{}_order.h5"))
    }
    there = {way: [file.is_file() for file in names.values()] for way, names in ways.items()}
    way = next((way for way in ways if all(there[way])), None)
    if way is None:
        for way in ways:
            if any(there[way]):
                absent = next(file for file in ways[way].values() if not file.is_file())
                listed = ", ".join(file.name for file in ways[way].values())
                raise FileNotFoundError(f"{absent}: no such file; a split of AVE is all of {listed}")
        return [""] * len(rows), ["AVE: no files of the split there (trainSet.txt or train_order.h5 ...)"]
    named = ways[way]
    notes = [f"AVE: split by {', '.join(file.name for file in named.values())}"]
    if all(all(found) for found in there.values()):
        others = ", ".join(file.name for file in ways["order"].values())
        notes[0] += f"; {others} are there too and are not read"
    find = _by_text(rows) if way == "text" else _by_order(rows)
    parts, twice = [""] * len(rows), []
    for part, file in named.items():
        for row in find(file):
            if parts[row] not in ("", part):
                twice.append(row)
            parts[row] = part  # of two parts the later: what is measured on is not trained on
    if twice:
        notes.append(
            f"AVE: {len(twice)} rows stand in two parts of the split (line {rows[twice[0]][0]} of "
            f"{ANNOTATIONS} the first); each counts for the later of train, validation, test"
        )
    return parts, notes


def _by_text(rows):
    whole = defaultdict(list)  # a class may stand twice for a video, and even a line
    for row, (_, *line) in enumerate(rows):
        whole[tuple(line)].append(row)
    known = {(label, video): row for row, (_, label, video, _) in enumerate(rows)}

    def find(file):
        for number, label, video, rest in _rows(file):
            if (label, video) not in known:
                raise ValueError(f"{file}:{number}: {label}&{video} is not in {ANNOTATIONS}")
            same = whole.get((label, video, rest), [known[label, video]])
            yield same.pop(0) if len(same) > 1 else same[0]

    return find


def _by_order(rows):
    def find(file):
        from tfvc.data import arrays

        order = arrays.whole(file, "order")
        whole = order.ndim == 1 and order.dtype.kind in "iu" and len(order) <= len(rows)
        # Read only where it is of such a size.
        order = np.asarray(arrays.row(file, order, ())) if whole else None
        if not whole or not ((order >= 0) & (order < len(rows))).all():
            raise ValueError(f"{file}: expected row numbers of {ANNOTATIONS}, 0 to {len(rows) - 1}")
        return order.tolist()

    return find


def _videos(root, media):
    """videoid -> file, in `AVE/` before beside it, .mp4 before others."""
    found = {}
    for folder in (root, root / "AVE"):
        there = [p for p in folder.iterdir() if p.suffix.lower() in media] if folder.is_dir() else []
        found |= {p.stem: p for p in sorted(there, key=lambda p: (p.suffix.lower() == ".mp4", p.name))}
    return found


def _repeated(clips, count):
    """What a user must know of videos that are annotated more than once."""
    twice = [video for video, n in count.items() if n > 1]
    if not twice:
        return []
    parts = defaultdict(list)
    for clip in clips:
        if clip["part"] and clip["part"] not in parts[clip["group"]]:
            parts[clip["group"]].append(clip["part"])
    across = [video for video in twice if len(parts[video]) > 1]
    more = sum(count.values()) - len(count)
    notes = [
        f"AVE: {len(twice)} video ids stand more than once ({_some(twice)}), in {more} rows besides the "
        "first; each row is a clip of its own, <videoid>#2 the second of a video"
    ]
    if across:
        shown = [f"{video} in {' and '.join(parts[video])}" for video in across]
        notes.append(
            f"AVE: {len(across)} of these videos leak across the parts of the split ({_some(shown)}); "
            "data.split=group keeps each video in one part"
        )
    return notes


def _some(names, most=3):
    return ", ".join(names[:most]) + (" ..." if len(names) > most else "")
