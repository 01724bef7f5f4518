"""A run on YouTube-8M's records applied to records and to raw video."""

import collections.abc
import csv
import glob
import itertools
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfvc import cli, evaluate, files, inference, predictions
from tfvc import predict as of_clips
from tfvc.backbones import yt8m
from tfvc.data import records, sources
from tfvc.data.datasets import MEDIA
from tfvc.data.report import Report
from tfvc.data.video import MediaError
from tfvc.yt8m import clips

SETTABLE = (
    "predict.top_k",
    "backbone.weights",
    "backbone.batch_size",
    "data.max_seconds",
    "data.max_pixels",
)
_TEXT = {"newline": "", "encoding": "utf-8", "errors": "surrogateescape"}  # ids are bytes of any kind


class Rows(collections.abc.Iterable):
    """The rows of an output of this file's making, read as they are asked for; `len` says how many."""

    def __init__(self, path, count):
        self._path, self._count = path, count

    def __len__(self):
        return self._count

    def __iter__(self):
        with open(self._path, **_TEXT) as f:
            if self._path.suffix.lower() == ".csv":
                yield from map(predictions.row_of, csv.DictReader(f))
            else:  # a row a line between the brackets
                yield from (json.loads(text.rstrip(",\n")) for text in f if text.startswith("{"))


def predict(run, paths, output, overrides=()):
    """Predicts records and raw video, in the order of `paths`, and writes the rows as they come.

    Nothing is held but a batch: YouTube-8M's test part has a million videos. The output appears under its
    name when its last row is written; an interrupted run starts anew.

    Args:
        run: `tfvc.workdir.Run` with `facts.kind == "yt8m"`.
        paths: files or patterns of records; video files, folders (their `*.tfrecord`, else their clips) and
            manifests. What does not end as a video file does is taken for records.
        output: Path of a `.csv` or `.json` file.
        overrides: `predict.top_k`, `data.max_*`, `backbone.batch_size`, and `backbone.weights`: the folder of
            the networks for raw video, see `tfvc.backbones.yt8m.load`.

    Returns:
        `Rows` of dicts as `tfvc.predict.predict`'s: `path` (of a record its id), `part` ("video"), `start`,
        `end` (None where only means were stored), `top`, `attention` (empty).

    Raises:
        FileNotFoundError: a path, or a file of the networks, that is not there.
        ValueError: nothing could be predicted; a stream that raw video does not give; scores that are not
            finite; an output that another process is writing.
    """
    recipe = evaluate.settable(run.recipe, overrides, SETTABLE)
    jobs = _jobs(paths, recipe)
    best = _Best(run, recipe.predict.top_k)
    networks = _networks(run, recipe) if any(is_clip for is_clip, _ in jobs) else None
    listing = output.with_name(f"{output.name}.skipped.csv")
    skipped, bar = [], cli.progress(None, 0, "video")
    with files.locked(output, "writing"):
        for path in (output, listing):
            files.sweep(path.parent, path.name)
        with files.aside(output) as temporary, open(temporary, "w", **_TEXT) as f, bar:
            table = _Table(f, output.suffix.lower(), best.k)
            for is_clip, names in jobs:
                read = _of_clips(names, run, recipe, networks, skipped, bar) if is_clip else None
                for batch in read or _of_records(names, run, skipped):
                    for row in best.rows(*batch):
                        table.add(row)
                    bar.update(len(batch[1]))
            table.end()
            if skipped:
                files.write_csv(listing, [["path", "reason"], *skipped])
            else:
                listing.unlink(missing_ok=True)
            if not table.count:  # an earlier output stays as it is
                path, reason = skipped[0]
                raise ValueError(
                    f"nothing could be predicted ({files.shown(path)}: {reason}); see {files.shown(listing)}"
                )
    note = f", {len(skipped)} skipped (see {files.shown(listing)})" if skipped else ""
    print(f"predicted {table.count} video{'s'[: table.count != 1]}{note}: {files.shown(output)}")
    return Rows(output, table.count)


class _Best:
    """The model, and the best classes of what it is given, found on the device."""

    def __init__(self, run, top_k):
        self.classes, self.k, self._run = run.facts.classes, min(top_k, len(run.facts.classes)), run.path
        model = run.model()
        signature = {name: tf.TensorSpec(t.shape, t.dtype, name) for name, t in dict(model.input).items()}

        def call(inputs):
            scores = model(inputs, training=False)
            # What is no number comes first, so that it is seen.
            return tf.math.top_k(tf.where(tf.math.is_nan(scores), np.inf, scores), self.k)

        self._names = list(signature)
        self._call = tf.function(call, input_signature=[signature], autograph=False)

    def rows(self, inputs, ids, ends):
        """A row a video of a batch of inputs."""
        scores, order = (v.numpy() for v in self._call({name: inputs[name] for name in self._names}))
        inference.check_finite(scores, self._run, ids=ids)
        for video, end, best, score in zip(ids, ends, order, scores, strict=True):
            top = [
                {"label": self.classes[i], "score": round(float(s), 6)}
                for i, s in zip(best, score, strict=True)
            ]
            yield {"path": video, "part": "video", "start": 0.0, "end": end, "top": top, "attention": []}


class _Table:
    """A file of rows, written one by one."""

    def __init__(self, file, suffix, k):
        self.count, self._json, self._file = 0, suffix == ".json", file
        self._csv = csv.writer(self._file, lineterminator="\n")
        if self._json:
            self._file.write("[")
        else:
            self._csv.writerow(predictions.header(k))

    def add(self, row):
        if self._json:
            self._file.write((",\n" if self.count else "\n") + json.dumps(row))
        else:
            self._csv.writerow(predictions.line(row))
        self.count += 1

    def end(self):
        if self._json:
            self._file.write("\n]\n")


def _jobs(paths, recipe):
    """`[(whether clips, [files])]` in the order of the paths, each file once.

    Records that rise by name are one job: the reader sorts its files.
    """
    if not paths:
        raise ValueError("expected PATHs: records as 'test*.tfrecord', video files, folders or manifests")
    jobs, seen = [], set()
    for is_clip, file in itertools.chain.from_iterable(_named(str(path), recipe) for path in paths):
        if file in seen:
            continue
        seen.add(file)
        if jobs and jobs[-1][0] == is_clip and (is_clip or jobs[-1][1][-1] < file):
            jobs[-1][1].append(file)
        else:
            jobs.append((is_clip, [file]))
    return jobs


def _named(path, recipe):
    """Pairs (whether it is a clip, file) of one path."""
    suffix = Path(path).suffix.lower()
    if os.path.isdir(path) and glob.glob(f"{glob.escape(path)}/*.tfrecord"):
        path = f"{glob.escape(path)}/*.tfrecord"
    elif (
        os.path.isdir(path) or suffix in (".csv", ".jsonl") or (suffix in MEDIA and not glob.has_magic(path))
    ):
        return [(True, str(file)) for file in of_clips.listed([path], recipe)]
    return [(Path(file).suffix.lower() in MEDIA, file) for file in sources.files([path])]


def _of_records(names, run, skipped):
    """Batches `(inputs, ids, ends)` of some files; what cannot be read is named and listed."""
    report, rows, count = Report(), run.facts.features, 0
    wanted = records.Records(names, rows, None)
    try:
        with records.readable():
            size = run.recipe.train.batch_size
            for inputs, _, ids in records.batches(wanted, size, on_corrupt="skip", report=report):
                count += len(ids)
                yield inputs, [os.fsdecode(i) for i in ids.numpy()], _ends(inputs, rows, run.recipe.data.fps)
    except ValueError as error:  # not one whole record in these files
        skipped.append([names[0], str(error)])
    skipped += [[file, f"byte {offset}: {reason}"] for file, offset, reason in report.faults]
    if report.faults:
        print(report.summary())
    elif not count:
        gone = sources.locate(names[0], sources.Copies())[2] < 0
        skipped.append([names[0], sources.unreadable(names[0]) if gone else "no record in it"])


def _ends(inputs, rows, fps):
    """Seconds of each video, by its longest stream; None where there are no frames."""
    lengths = [np.asarray(inputs[f"{row.name}_length"]) for row in rows if len(row.shape) > 1]
    if not lengths:
        return [None] * len(inputs[rows[0].name])
    return [round(float(n) / fps, 3) for n in np.max(lengths, axis=0)]


def _of_clips(paths, run, recipe, networks, skipped, bar):
    """Batches `(inputs, ids, ends)` of one clip each; what cannot be decoded is listed."""
    rows, options = run.facts.features, _options(run, recipe)
    for path in paths:
        notes = []
        try:
            streams = clips.streams(path, networks, notes=notes, **options)
        except (MediaError, OSError) as error:
            skipped.append([path, getattr(error, "reason", None) or str(error)])
            continue
        finally:
            for note in notes:
                bar.write(f"note: {files.shown(path)}: {files.shown(note)}", file=sys.stderr)
        yield _batch(path, streams, rows, recipe)


def of_one(run, recipe):
    """A function of a clip's path: its row, notes, and the seconds that each part of the work took.

    Model and networks are loaded once, here.

    Args:
        run: `tfvc.workdir.Run` with `facts.kind == "yt8m"`.
        recipe: its own, with the settings that `predict` allows.

    Raises:
        FileNotFoundError, ValueError: as `predict`; the function itself raises `MediaError` too.
    """
    networks, best = _networks(run, recipe), _Best(run, recipe.predict.top_k)
    options = _options(run, recipe)

    def ask(path):
        notes, start = [], time.perf_counter()
        streams = clips.streams(path, networks, notes=notes, **options)
        read = time.perf_counter()
        (row,) = best.rows(*_batch(str(path), streams, run.facts.features, recipe))
        return row, notes, {"decoding and features": read - start, "model": time.perf_counter() - read}

    return ask


def _options(run, recipe):
    """Keyword arguments of `clips.streams`."""
    frames = [row.shape[0] for row in run.facts.features if len(row.shape) > 1]
    return {
        "fps": recipe.data.fps,
        "max_frames": max(frames, default=yt8m.MAX_FRAMES),
        "max_seconds": recipe.data.max_seconds,
        "max_pixels": recipe.data.max_pixels,
        "batch_size": recipe.backbone.batch_size,
    }


def _batch(path, streams, rows, recipe):
    """A batch `(inputs, ids, ends)` of one clip."""
    return _inputs(streams, rows), [path], [round(_frames(streams) / recipe.data.fps, 3)]


def _frames(streams):
    return max(len(value) for name, value in streams.items() if value.dtype == np.uint8)


def _inputs(streams, rows):
    """A batch of one clip: cut or padded to the rows; an absent stream is zeros of length 0."""
    inputs = {}
    for row in rows:
        inputs[row.name] = np.zeros((1, *row.shape), row.dtype)
        value = streams.get(row.name)
        if len(row.shape) == 1:
            if value is not None:
                inputs[row.name][0] = value
            continue
        count = 0 if value is None else min(len(value), row.shape[0])
        inputs[f"{row.name}_length"] = np.array([count], "int32")
        if count:
            inputs[row.name][0, :count] = value[:count]
    return inputs


def _networks(run, recipe):
    """What turns clips into the run's streams."""
    widths = {"rgb": yt8m.COMPONENTS, "audio": yt8m.AUDIO}
    for row in run.facts.features:
        frames = len(row.shape) > 1
        name = row.name if frames else row.name.removeprefix("mean_")
        known = row.name == (name if frames else f"mean_{name}") and widths.get(name) == row.shape[-1]
        if not known or len(row.shape) > 2 or row.dtype != ("uint8" if frames else "float32"):
            raise ValueError(
                f"this run reads {row.name} {row.shape} {row.dtype}; raw video gives rgb and audio, "
                f"{yt8m.COMPONENTS} and {yt8m.AUDIO} bytes a frame, mean_rgb and mean_audio; give records"
            )
    sound = {"audio" in row.name for row in run.facts.features}
    networks = yt8m.load(recipe.backbone.weights, pictures=False in sound, sound=True in sound)
    print(networks.weights)
    if recipe.backbone.weights == yt8m.RANDOM:
        print("backbone.weights=random: random networks; for trying things out only")
    return networks
