"""What inference writes: lines of (class, score) pairs for videos, rankings of segments for classes.

Only NumPy: this is the text side, after the network.
"""

import csv
import io
import urllib.error
import urllib.request

import numpy as np

from tfvc import files

# Why inference and evaluation, which keep the order of the records, do not need --num_readers.
READERS = "not needed: shards are read in their order, one ahead, and parsed on all processors"
VIDEO_HEADER = b"VideoId,LabelConfidencePairs\n"
SEGMENT_HEADER = b"Class,Segments\n"
_ENTRY = np.dtype([("class", "i4"), ("score", "f4"), ("video", "i4"), ("start", "i4")])
_PRUNE = 1 << 22  # entries (16 bytes each) that may wait until the ranking is cut
_LONGEST = 1 << 24  # bytes that are taken of such a file
_SECONDS = 30  # to wait for a file of class ids


def lines(video_ids, indices, scores, names=None):
    """A line for each video: its id, then its classes with their scores, in the order given.

    Args:
        video_ids: strings or bytes `(B,)`.
        indices: int `(B, K)` classes, best first.
        scores: float `(B, K)`.
        names: None writes Kaggle's `id,class score class score ...` (`%i %g`). A list of class names writes
            `id,name score;name score;...`, as names hold spaces. A name or id with a comma or a quote is
            quoted as CSV wants it.

    Returns:
        generator of bytes, a newline at the end of each.

    Raises:
        ValueError: a score is not finite.

    Example:
        >>> list(lines(["v"], [[2, 0]], [[0.5, 0.25]]))
        [b'v,2 0.5 0 0.25\\n']
        >>> list(lines(["v"], [[2, 0]], [[0.5, 0.25]], ["Game", "Car", "Toy, red"]))
        [b'v,"Toy, red 0.5;Game 0.25"\\n']
    """
    indices, scores = np.asarray(indices), np.asarray(scores)
    fault = np.flatnonzero(~np.isfinite(scores).all(-1))
    if len(fault):
        raise ValueError(
            f"video {_text(video_ids[fault[0]])}: its prediction is not a finite number; look at its record, "
            "or evaluate an earlier checkpoint"
        )
    form = " ".join(["%i %g"] * indices.shape[-1])
    for video, classes, values in zip(video_ids, indices.tolist(), scores.tolist(), strict=True):
        if names is None:
            pairs = form % tuple(x for pair in zip(classes, values, strict=True) for x in pair)
        else:
            pairs = ";".join(f"{names[c]} {v:g}" for c, v in zip(classes, values, strict=True))
        yield _row(_text(video), pairs)


def _text(value):
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


def _row(*cells):
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(cells)
    return buffer.getvalue().encode("utf-8", "surrogateescape")


class Ranking:
    """The best segments of each class, at most `limit` of them, whatever comes in whatever batches.

    Equal scores keep the order in which they came.

    Args:
        limit: how many segments a class may have.

    Example:
        >>> ranking = Ranking(limit=2)
        >>> ranking.add([b"a", b"b"], np.array([[0, 5], [1, 0]]), [[7], [7]], [[0.5], [0.75]])
        >>> list(ranking.lines())
        [b'7,b:0 a:5\\n']
    """

    def __init__(self, limit):
        self.limit = limit
        self._ids = []
        self._parts = []
        self._size, self._cut_at = 0, _PRUNE

    def add(self, video_ids, segments, classes, scores):
        """Takes in a batch.

        Args:
            video_ids: strings or bytes of the videos.
            segments: int `(N, 2)`: place in `video_ids`, first frame.
            classes: int `(N, K)`.
            scores: float `(N, K)`.

        Raises:
            ValueError: an id with a space or a colon, which would make the file ambiguous; a score that is
                not finite.
        """
        segments, classes = np.asarray(segments), np.asarray(classes)
        part = np.empty(classes.shape, _ENTRY)
        part["class"], part["score"] = classes, scores
        part["video"] = segments[:, :1] + len(self._ids)
        part["start"] = segments[:, 1:]
        for video in map(_text, video_ids):
            if set(' :,"\n') & set(video):
                raise ValueError(
                    f"video id {video!r}: spaces, colons, commas and quotes separate the segments of a file; "
                    "give the record another id"
                )
            self._ids.append(video)
        if not np.isfinite(part["score"]).all():
            video = self._ids[part["video"][~np.isfinite(part["score"])][0]]
            raise ValueError(f"video {video}: its prediction is not a finite number; look at its record")
        self._parts.append(part.ravel())
        self._size += part.size
        if self._size > self._cut_at:
            self._cut()

    def lines(self, names=None):
        """`class,id:start id:start ...` by falling score; the classes in rising order, or their names."""
        self._cut()
        entries = self._parts[0] if self._parts else np.empty(0, _ENTRY)
        bounds = np.flatnonzero(np.diff(entries["class"])) + 1
        for part in np.split(entries, bounds) if len(entries) else []:
            number = int(part["class"][0])
            places = zip(part["video"].tolist(), part["start"].tolist(), strict=True)
            text = " ".join(f"{self._ids[video]}:{start}" for video, start in places)
            yield _row(number if names is None else names[number], text)

    def _cut(self):
        if not self._parts:
            return
        entries = np.concatenate(self._parts)
        entries = entries[np.lexsort((-entries["score"], entries["class"]))]  # stable
        first = np.searchsorted(entries["class"], entries["class"])  # where each one's class begins
        entries = entries[np.arange(len(entries)) - first < self.limit]
        self._parts, self._size = [entries], len(entries)
        self._cut_at = _PRUNE + 2 * len(entries)


def class_mask(source, num_classes):
    """float32 `(num_classes,)`: 1 for the classes that a file lists, one number a line; others 0.

    Args:
        source: a file, or an `http(s)://` address. Lines that are no number (a header) are passed over.
        num_classes: C.

    Raises:
        ValueError: it lists no class, or one that is not below C; the address does not answer.
        FileNotFoundError: no such file.
    """
    mask = np.zeros(num_classes, "float32")
    for number, line in enumerate(_read(source).splitlines(), 1):
        digits = line.strip()
        if not digits.isdecimal():
            continue
        index = int(digits) if len(digits) < 20 else num_classes  # Python reads no more than 4,300 digits
        if index >= num_classes:
            raise ValueError(
                f"{source}, line {number}: class {digits[:20]}; the model has 0 to {num_classes - 1}"
            )
        mask[index] = 1
    if not mask.any():
        raise ValueError(f"{source}: lists no class; expected one number a line")
    return mask


def _read(source):
    if not source.startswith(("http://", "https://")):
        return files.read_whole(source).decode("utf-8-sig", "replace")
    try:
        with urllib.request.urlopen(source, timeout=_SECONDS) as answer:
            return answer.read(_LONGEST).decode("utf-8-sig", "replace")
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise ValueError(
            f"{source}: cannot be fetched ({files.first_line(error)}); give a local copy by "
            "--segment_label_ids_file, or an empty one for all classes"
        ) from None
