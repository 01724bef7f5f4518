"""The file that predictions are listed in, CSV or JSON, and what its rows were made from."""

import csv
import io
import os

from tfvc import files
from tfvc.recipe import digest

SUFFIXES = (".csv", ".json")


class Table:
    """The output file, and beside it what its rows were made from: `<output>.state.json`.

    Args:
        output: Path; what it lists already stays, where it was made by the same settings.
        made_by: JSON-able: whatever the rows depend on besides the files and their texts.
        texts: path -> the words that go with the file; None where none are read. They say what is wanted.
        media: whether files are read; else the texts alone, and the paths are but names.
    """

    def __init__(self, output, made_by, texts, media=True):
        self.output, self.state = output, output.with_name(f"{output.name}.state.json")
        self.texts, self._media = texts, media
        self._settings = digest(made_by)
        self._seen, self._of = {}, {}  # path -> its stamp, path -> rows
        if output.is_file() and self.state.is_file():
            state = files.read_json(self.state, "remove it")
            own = isinstance(state, dict) and isinstance(state.get("files"), dict)
            made = (self._settings, files.sha256(output))
            if own and (state.get("settings"), state.get("output")) == made:
                self._seen = {path: tuple(stamp) for path, stamp in state["files"].items()}
                for row in read(output):
                    self._of.setdefault(row["path"], []).append(row)
            else:
                print(
                    f"{files.shown(output)}: made by another model or with other settings, or edited; "
                    "it is written anew"
                )

    def holds(self, path):
        """Whether rows of this file are there, and the file and its text are as they were."""
        return str(path) in self._of and self._seen.get(str(path)) == self._stamp(path)

    def add(self, path, rows):
        """Takes in the rows of a file."""
        self._of[str(path)], self._seen[str(path)] = rows, self._stamp(path)

    def rows(self):
        """Those of the wanted files, in order."""
        return [row for path in self.texts if self.holds(path) for row in self._of[str(path)]]

    def write(self):
        """Writes the output, then its state."""
        rows = self.rows()
        if self.output.suffix.lower() == ".json":
            files.write_json(self.output, rows)
        else:
            files.write_csv(self.output, _lines(rows))
        kept = {row["path"]: self._seen[row["path"]] for row in rows}
        made = {"settings": self._settings, "output": files.sha256(self.output), "files": kept}
        files.write_json(self.state, made)  # killed before this line: all is predicted again

    def _stamp(self, path):
        if not self._media:
            return (digest(self.texts[path]),)
        try:
            status = os.stat(path)
        except OSError:
            return None  # it will be skipped, and listed
        text = self.texts[path]
        return status.st_size, status.st_mtime_ns, *([] if text is None else [digest(text)])


def _lines(rows):
    """The rows as those of a CSV file, its header first."""
    own = [name for name in ("labels", "missing") if any(name in row for row in rows)]
    yield header(max((len(row["top"]) for row in rows), default=0)) + own
    for row in rows:
        values = {"labels": _joined(row.get("labels", ())), "missing": " ".join(row.get("missing", ()))}
        yield line(row) + [values[name] for name in own]


def header(k):
    """The first line of a CSV output of k classes a row.

    Example:
        >>> header(1)
        ['path', 'part', 'start', 'end', 'label_1', 'score_1', 'attention']
    """
    names = [f"{name}_{i}" for i in range(1, k + 1) for name in ("label", "score")]
    return ["path", "part", "start", "end", *names, "attention"]


def line(row):
    """A row as a line of a CSV output; `row_of` reads it."""
    top = [value for one in row["top"] for value in (one["label"], one["score"])]
    weights = []
    for one in row["attention"]:
        by = "".join(f":{name}={weight:g}" for name, weight in one.get("by", {}).items())
        weights.append(f"{one['time']:g}:{one['weight']:g}{by}")
    return [row["path"], row["part"], row["start"], row["end"], *top, " ".join(weights)]


def read(path):
    """The rows of an output of `Table`'s making."""
    if path.suffix.lower() == ".json":
        return files.read_json(path)
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as f:
        return [row_of(row) for row in csv.DictReader(f)]


def row_of(row):
    """The row of a line of a CSV output, as `csv.DictReader` gives it."""
    k = sum(name.startswith("label_") for name in row)
    top = [{"label": row[f"label_{i}"], "score": float(row[f"score_{i}"])} for i in range(1, k + 1)]
    missing = {"missing": row["missing"].split()} if "missing" in row else {}
    labels = {"labels": _parted(row["labels"])} if "labels" in row else {}
    return {
        "path": row["path"],
        **missing,
        "part": row["part"],
        "start": _number(row["start"]),
        "end": _number(row["end"]),
        **labels,
        "top": top,
        "attention": list(map(_weight_of, row["attention"].split())),
    }


def _joined(names):
    """Names with `;` between them; one that has a `;` of its own stands in quotes, as in CSV."""
    text = io.StringIO()
    csv.writer(text, delimiter=";", lineterminator="").writerow(names)
    return text.getvalue()


def _parted(text):
    """The names of `_joined`."""
    return next(csv.reader(io.StringIO(text, newline=""), delimiter=";"), [])


def _weight_of(text):
    """An item of `attention`: `time:weight`, and `:stream=weight` for each of several streams."""
    seconds, weight, *by = text.split(":")
    shares = {name: float(share) for name, _, share in (part.partition("=") for part in by)}
    return {"time": float(seconds), "weight": float(weight)} | ({"by": shares} if by else {})


def _number(text):
    return float(text) if text else None  # means of a video, or words alone: no time is known
