"""A finished run applied to videos: class names, scores, and where in time the model looked."""

import csv
import dataclasses
import itertools
import os
import sys
import time
from pathlib import Path

from tfvc import cli, encoders, evaluate, extract, files, names, workdir
from tfvc import explain as explanation
from tfvc.recipe import digest

_DOC = """Names the classes of videos: files, folders (searched through), CSV or JSONL manifests.

Writes one row a video, and for a video longer than the model's T frames one row a window besides.
Start the same command again after an interruption: files already listed and unchanged are kept.

Of a run on YouTube-8M's records PATH may also be records, as 'test*.tfrecord', and a video has one row.
Raw video then needs the networks that made the records: --set=backbone.weights=FOLDER (default ~/yt8m).
Such a run starts anew after an interruption."""

_SETTABLE = ("predict.", "backbone.batch_size", "data.max_seconds", "data.max_pixels")
SUFFIXES = (".csv", ".json")  # of an output
_SECONDS = 5.0  # at least, between two writings of the output
_WINDOWS = 32  # windows a call of the model


def predict(run_folder, paths, output="", overrides=(), explain=""):
    """Predicts videos and writes the result.

    Args:
        run_folder: the folder of a run.
        paths: files, folders, manifests (labels not needed), any mixture.
            A run on YouTube-8M's records takes records too; see `tfvc.yt8m.predict`, which then answers.
        output: a `.csv` or `.json` file; "" = `<run>/predictions.csv`. It lists what `paths` names and
            nothing else; a file with unchanged size and time that is listed already is not decoded again.
        overrides: `predict.top_k`, `predict.window_step`, `backbone.batch_size`, `data.max_*`.
        explain: a `.png` file: the scores over time are drawn, as `tfvc.explain.write` does; "" = nothing.

    Returns:
        list of dicts, in the order of `paths`: `path`, `part` ("video": the whole, "window"), `start`
        and `end` (seconds; a frame lasts until the next would be taken, so `end` may lie past a clip's own),
        `top` (list of {label, score}, best first), `attention` (list of {time,
        weight}, which sum to at most 1: padding may hold the rest; empty where the model has none, and
        for the whole of a video in windows; of a model that scores each of several streams also `by`, a dict
        stream -> its share of the weight), and of such a model `missing`, the streams that the video has not
        (zeros stand in their place). The scores of the whole are the mean of its windows'.

    Raises:
        FileNotFoundError: a path that is not there.
        ValueError: nothing could be predicted, an output that is neither .csv nor .json, or one that
            another process is writing.
    """
    run = workdir.load(run_folder)
    output = Path(output or run.path / "predictions.csv")
    if output.suffix.lower() not in SUFFIXES:
        raise ValueError(f"--output={output}: expected a name that ends in {' or '.join(SUFFIXES)}")
    if explain:
        explanation.checked(explain)  # before a long work
    if run.facts.kind == "yt8m":
        if explain:
            raise ValueError(f"--explain={explain}: {run.recipe.model} has no scores over time; leave it out")
        from tfvc.yt8m import predict as of_records

        return of_records.predict(run, paths, output, overrides)
    recipe = evaluate.settable(run.recipe, overrides, _SETTABLE)
    wanted = listed(paths, recipe)
    listing = output.with_name(f"{output.name}.skipped.csv")
    with files.locked(output, "writing"):
        for path in (output, listing):
            files.sweep(path.parent, path.name)
        table = _Table(output, run, recipe)
        todo = [path for path in wanted if not table.holds(path)]
        if len(todo) < len(wanted):
            print(f"{len(wanted) - len(todo)} of {len(wanted)} files are in {files.shown(output)} already")
        skipped = _fill(table, todo, wanted, run, recipe) if todo else []
        rows = table.rows(wanted)
        if rows:  # else an earlier output stays as it is
            table.write(wanted)
        if skipped:
            files.write_csv(listing, [["path", "reason"], *skipped])
        else:
            listing.unlink(missing_ok=True)
    note = f", {len(skipped)} skipped (see {files.shown(listing)})" if skipped else ""
    if not rows:
        path, reason = skipped[0]
        raise ValueError(
            f"not one of {len(wanted)} files could be predicted ({files.shown(path)}: {reason}); see "
            f"{files.shown(listing)}"
        )
    print(f"predicted {len(wanted) - len(skipped)} of {len(wanted)} files{note}: {files.shown(output)}")
    if explain:
        of = {row["path"]: [] for row in rows}
        for row in rows:
            of[row["path"]].append(row)
        pictures = explanation.write(explain, of, recipe)
        print(f"explained: {', '.join(map(files.shown, pictures))}")
    return rows


def window_starts(frames, length, step=0):
    """First frames of the windows over a video; the last window ends with the video.

    Example:
        >>> window_starts(10, 4, 3), window_starts(11, 4), window_starts(2, 4)
        ([0, 3, 6], [0, 4, 7], [0])
    """
    last = max(0, frames - length)
    return [*range(0, last, step or length), last]


class Predictor:
    """A run's model over windows of features.

    Args:
        run: `tfvc.workdir.Run`.
    """

    def __init__(self, run):
        import tensorflow as tf

        self.rows = run.facts.features
        self.length = self.rows[0].shape[0]
        whole = run.model()  # once: what follows shares its weights
        model = workdir.classifier_of(whole)
        module = names.load("models", run.recipe.model)
        scores = module.attention_scores(whole) if hasattr(module, "attention_scores") else None
        spec = {row.name: tf.TensorSpec((None, *row.shape), row.dtype) for row in self.rows}

        def call(inputs):
            outputs = {"probabilities": model(inputs, training=False)}
            return outputs | ({} if scores is None else {"attention": scores(inputs, training=False)})

        self._call = tf.function(call, input_signature=[spec], autograph=False)

    def __call__(self, features, starts):
        """Probabilities (W, C), and attention (W, T) or (W, T, K) or None, of windows of one video.

        Args:
            features: row name -> array (N, ...) of the whole video; a row that is left out is missing.
            starts: first rows of the windows.
        """
        import numpy as np

        parts = []
        for i in range(0, len(starts), _WINDOWS):
            some = starts[i : i + _WINDOWS]
            inputs = {}
            for row in self.rows:
                inputs[row.name] = np.zeros((len(some), *row.shape), row.dtype)
                for window, start in zip(inputs[row.name], some, strict=True):
                    piece = features.get(row.name, window[:0])[start : start + self.length]
                    window[: len(piece)] = piece
            parts.append({k: v.numpy() for k, v in self._call(inputs).items()})
        joined = {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}
        return joined["probabilities"], joined.get("attention")


def _fill(table, todo, wanted, run, recipe):
    """Predicts files into the table; returns the skipped ones as [path, reason]."""
    from tfvc.data import ahead

    predictor, networks, skipped = Predictor(run), encoders.of_run(run, recipe), []
    since, cost, new = time.monotonic(), 0.0, 0
    bar = cli.progress(len(wanted), len(wanted) - len(todo), "file")
    try:
        with bar, extract.decode_ahead(todo, networks) as decoder:
            for one in ahead.encode_all(decoder, range(len(todo)), networks, recipe.backbone.batch_size):
                path = todo[one.index]
                bar.update()
                for text in one.warnings:
                    bar.write(f"warning: {path}: {text}", file=sys.stderr)
                if one.reason:
                    skipped.append([str(path), one.reason])
                    continue
                rows = _rows(
                    str(path), networks.features(one), one.times, predictor, run.facts.classes, recipe
                )
                table.add(path, rows)
                new += 1
                # What is written grows with the list: never spend more than a twentieth of the time on it.
                if time.monotonic() - since > max(_SECONDS, 20 * cost):
                    start = time.monotonic()
                    table.write(wanted)
                    since, new = time.monotonic(), 0
                    cost = since - start
    finally:  # Ctrl-C keeps what was predicted
        if new:
            table.write(wanted)
    return skipped


def _rows(path, features, frames, predictor, classes, recipe):
    """The rows of one video; `frames` are the times of its frames, one or several a row of features."""
    length, second = predictor.length, encoders.seconds_per_row(recipe)
    count = max(map(len, features.values()))
    a_frame = len(frames) == count and encoders.frames_per_row(recipe) == 1
    times = frames if a_frame else [k * second for k in range(count)]
    starts = window_starts(count, length, recipe.predict.window_step)
    probabilities, attention = predictor(features, starts)
    streams = [row.name for row in predictor.rows]
    about = {"path": path}
    if len(streams) > 1:
        about["missing"] = [name for name in streams if name not in features]
    whole = about | {"part": "video", "start": 0.0, "end": round(times[-1] + second, 3)}
    whole["top"] = _top(probabilities.mean(axis=0), classes, recipe.predict.top_k)
    if len(starts) == 1:
        return [whole | {"attention": _timed(attention, 0, times, streams)}]
    rows = [whole | {"attention": []}]
    for i, start in enumerate(starts):
        seen = times[start : start + length]
        row = about | {"part": "window", "start": round(seen[0], 3), "end": round(seen[-1] + second, 3)}
        row["top"] = _top(probabilities[i], classes, recipe.predict.top_k)
        rows.append(row | {"attention": _timed(attention, i, seen, streams)})
    return rows


def _top(scores, classes, k):
    order = sorted(range(len(classes)), key=lambda i: (-scores[i], i))[:k]
    return [{"label": classes[i], "score": round(float(scores[i]), 6)} for i in order]


def _timed(attention, i, times, streams):
    """`attention` of a row: the weight of each time, and of each stream at it where there are several."""
    if attention is None:
        return []
    found = []
    for t, weights in zip(times, attention[i], strict=False):
        one = {"time": round(t, 3), "weight": round(float(weights.sum()), 4)}
        if weights.ndim and len(streams) > 1:
            one["by"] = {name: round(float(w), 4) for name, w in zip(streams, weights, strict=True)}
        found.append(one)
    return found


class _Table:
    """The output file, and beside it what its rows were made from: `<output>.state.json`."""

    def __init__(self, output, run, recipe):
        self.output, self.state = output, output.with_name(f"{output.name}.state.json")
        made = [files.sha256(run.path / "model.keras") if (run.path / "model.keras").is_file() else ""]
        made += [dataclasses.asdict(recipe.predict), recipe.data.max_seconds, recipe.data.max_pixels]
        self.settings = digest(made)
        self.seen, self.of = {}, {}  # path -> [size, time], path -> rows
        if output.is_file() and self.state.is_file():
            state = files.read_json(self.state, "remove it")
            own = isinstance(state, dict) and isinstance(state.get("files"), dict)
            made = (self.settings, files.sha256(output))
            if own and (state.get("settings"), state.get("output")) == made:
                self.seen = {path: tuple(stamp) for path, stamp in state["files"].items()}
                for row in _read(output):
                    self.of.setdefault(row["path"], []).append(row)
            else:
                print(
                    f"{files.shown(output)}: made by another model or with other settings, or edited; "
                    "it is written anew"
                )

    def holds(self, path):
        return str(path) in self.of and self.seen.get(str(path)) == _stamp(path)

    def add(self, path, rows):
        self.of[str(path)], self.seen[str(path)] = rows, _stamp(path)

    def rows(self, wanted):
        return [row for path in wanted if self.holds(path) for row in self.of[str(path)]]

    def write(self, wanted):
        rows = self.rows(wanted)
        if self.output.suffix.lower() == ".json":
            files.write_json(self.output, rows)
        else:
            files.write_csv(self.output, _lines(rows))
        kept = {row["path"]: self.seen[row["path"]] for row in rows}
        made = {"settings": self.settings, "output": files.sha256(self.output), "files": kept}
        files.write_json(self.state, made)  # killed before this line: all is predicted again


def _lines(rows):
    """The rows as those of a CSV file, its header first."""
    several = any("missing" in row for row in rows)
    yield header(max((len(row["top"]) for row in rows), default=0)) + ["missing"] * several
    for row in rows:
        yield line(row) + [" ".join(row.get("missing", ()))] * several


def header(k):
    """The first line of a CSV output of k classes a row."""
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


def _read(path):
    """The rows of an output of this file's own making."""
    if path.suffix.lower() == ".json":
        return files.read_json(path)
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as f:
        return [row_of(row) for row in csv.DictReader(f)]


def row_of(row):
    """The row of a line of a CSV output, as `csv.DictReader` gives it."""
    k = sum(name.startswith("label_") for name in row)
    top = [{"label": row[f"label_{i}"], "score": float(row[f"score_{i}"])} for i in range(1, k + 1)]
    missing = {"missing": row["missing"].split()} if "missing" in row else {}
    return {
        "path": row["path"],
        **missing,
        "part": row["part"],
        "start": _number(row["start"]),
        "end": _number(row["end"]),
        "top": top,
        "attention": list(map(_weight_of, row["attention"].split())),
    }


def _weight_of(text):
    """An item of `attention`: `time:weight`, and `:stream=weight` for each of several streams."""
    seconds, weight, *by = text.split(":")
    shares = {name: float(share) for name, _, share in (part.partition("=") for part in by)}
    return {"time": float(seconds), "weight": float(weight)} | ({"by": shares} if by else {})


def _number(text):
    return float(text) if text else None  # means of a video: no time is known


def listed(paths, recipe):
    """The media files that the bare arguments name, in order, each once."""
    from tfvc.data import datasets

    if not paths:
        raise ValueError("expected PATHs: video files, folders, or .csv/.jsonl manifests")
    found = []
    for path in map(Path, paths):
        if not path.exists():
            raise FileNotFoundError(
                f"{path}: no such file or folder; expected a video, a folder or a manifest"
            )
        if path.is_dir() or path.suffix.lower() in (".csv", ".jsonl"):
            data = dataclasses.replace(recipe.data, kind="manifest" if path.is_file() else "folder")
            found += [Path(clip.path) for clip in datasets.load(data, str(path), labelled=False).clips]
        else:
            found.append(path)
    return list(dict.fromkeys(found))


def _stamp(path):
    try:
        status = os.stat(path)
    except OSError:
        return None  # it will be skipped, and listed
    return status.st_size, status.st_mtime_ns


def main(argv=None):
    def run(arguments):
        given = (arguments.workdir, arguments.paths, arguments.output, arguments.set, arguments.explain)
        rows = predict(*given)
        for row in itertools.islice((row for row in rows if row["part"] == "video"), 20):
            print(
                f"{files.shown(row['path'])}: "
                + ", ".join(f"{t['label']} {t['score']:.3f}" for t in row["top"][:3])
            )

    cli.command("tfvc.predict", _DOC, ("workdir", "set", "output", "explain"), run, argv, paths=True)


if __name__ == "__main__":
    main()
