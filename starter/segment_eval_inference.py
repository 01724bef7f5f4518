"""Mean average precision of ranked segments: `python -m starter.segment_eval_inference`."""

import csv
import math
import os
import sys
from pathlib import Path

if not __package__:  # run as a file: `starter` is found from the root, nothing of it by its bare name
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np

from starter import flags
from tfvc import files, ranking

_DOC = """mAP@n of a submission of ranked segments, as starter.inference --segment_labels writes it, against
rated segments: read from --label_cache where that file exists, else from records (--eval_data_pattern)."""

_FLAGS = {
    "eval_data_pattern": ("string", "", "records with rated segments, as validate*.tfrecord; several: a,b"),
    "label_cache": ("string", "", "CSV of segment,class,score: read where it exists, else written"),
    "submission_file": ("string", "", "lines of class,id:start id:start ..., best first"),
    "top_n": ("natural", 0, "look at the first n segments of each class; 0 = all"),
}
_BATCH = 256  # records parsed at once


def read_labels(data_pattern, cache_path=""):
    """The rated segments of a set.

    **Source** `read_labels` of YouTube-8M's segment_eval_inference.py.
    **Differs** Ids are text; under Python 3 the original's keys are `b'id':0` and match nothing.

    Args:
        data_pattern: records (SequenceExamples with segment labels); several patterns as `a,b`.
        cache_path: CSV of segment,class,score: read where it exists, else written.

    Returns:
        dict, (`id:start`, class) -> score, above 0 = positive. Of a pair rated twice the last rating stays.

    Raises:
        ValueError: neither is given; the cache or a record is broken (it is named).
        FileNotFoundError: no such records.
    """
    if cache_path and os.path.exists(cache_path):
        if data_pattern:
            print(f"labels read from {cache_path}; delete it to read {data_pattern} again")
        return _cached(cache_path)
    if not data_pattern:
        missing = f"{cache_path} does not exist" if cache_path else "no --label_cache is given"
        raise ValueError(f"no rated segments: {missing}; expected --eval_data_pattern=RECORDS")
    labels = _rated(data_pattern)
    if cache_path:
        files.write_csv(cache_path, [(segment, c, score) for (segment, c), score in labels.items()])
    return labels


def read_segment_predictions(file_path, labels, top_n=0):
    """The ranked segments of a submission that are rated.

    **Source** `read_segment_predictions` of YouTube-8M's segment_eval_inference.py.
    **Differs** Takes the header `Class,Segments`, which the original's inference writes and its evaluation
    cannot read. Keeps the last segment of each line: the original leaves the newline on it, and so drops it
    silently unless the file ends there. Of a segment listed twice the first place counts, and a line says
    how many there were; the original counts both.

    Args:
        file_path: lines of `class,id:start id:start ...`, best first, with or without a header.
        labels: of `read_labels`.
        top_n: look at the first n segments of each class, rated or not; 0 = all.

    Returns:
        dict, class -> list of segments.

    Raises:
        ValueError: a line of another form, or a class listed twice; file and line are named. No line at all.
        FileNotFoundError: no such file.
    """
    predictions, repeated = {}, 0
    with open(file_path, encoding="utf-8", errors="surrogateescape") as f:
        for number, line in enumerate(f, 1):
            name, comma, segments = line.strip().partition(",")
            if not name or (number == 1 and name.lower() == "class"):
                continue
            if not comma or not name.isdecimal():
                raise ValueError(
                    f"{file_path}, line {number}: {line.strip()[:40]!r}; expected class,id:start id:start "
                    "with a class number"
                )
            if int(name) in predictions:
                raise ValueError(f"{file_path}, line {number}: class {name} again; expected one line a class")
            listed = segments.split()[: top_n or None]
            for segment in listed:
                video, _, start = segment.rpartition(":")
                if not video or not start.isdecimal():
                    raise ValueError(
                        f"{file_path}, line {number}: segment {segment[:40]!r}; expected id:start"
                    )
            rated = [segment for segment in listed if (segment, int(name)) in labels]
            predictions[int(name)] = list(dict.fromkeys(rated))
            repeated += len(rated) - len(predictions[int(name)])
    if not predictions:
        raise ValueError(
            f"{file_path}: holds no predictions; expected lines of class,id:start id:start ..., as "
            "starter.inference --segment_labels writes them"
        )
    if repeated:
        print(f"{file_path}: {repeated} segments are listed twice for a class; their first place counts")
    return predictions


def evaluate(labels, submission_file, top_n=0):
    """Average precision of each class of a submission, over the rated segments in their order.

        AP = sum over positive segments at places i (positive ones up to i / i) / all positives of the class

    **Source** `main` of YouTube-8M's segment_eval_inference.py.
    **Differs** A class without positives is left out, where the original stops with a KeyError; a single
    class is evaluated, where it stops with a ValueError.

    Args:
        labels: of `read_labels`.
        submission_file: of `read_segment_predictions`.
        top_n: of `read_segment_predictions`. The cut comes before unrated segments are dropped.

    Returns:
        dict, class -> average precision, for the classes of the submission that have a positive segment.

    Raises:
        ValueError: no class is left, or what `read_segment_predictions` raises.
    """
    predictions = read_segment_predictions(submission_file, labels, top_n)
    positives = {}
    for (_, c), score in labels.items():
        positives[c] = positives.get(c, 0) + (score > 0)
    found = {}
    for c, segments in predictions.items():
        if positives.get(c):
            hits = [labels[segment, c] > 0 for segment in segments]
            places = np.arange(len(hits), 0, -1)
            found[c] = ranking.average_precision(places, np.array(hits, bool), positives[c])
    if not found:
        raise ValueError(
            f"{submission_file}: no class of it has a positive segment among the {len(labels)} rated ones; "
            "expected a submission for the same videos"
        )
    if len(found) < len(predictions):
        print(f"{len(predictions) - len(found)} classes have no positive segment and are left out")
    return found


def _cached(path):
    labels = {}
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as f:
        reader = csv.reader(f)
        try:
            for row in reader:
                fault = f"{','.join(row)[:60]!r}"
                segment, c, score = row
                labels[segment, int(c)] = float(score)
                if not math.isfinite(float(score)):
                    raise ValueError
        except (ValueError, csv.Error) as error:
            fault = error if isinstance(error, csv.Error) else fault
            raise ValueError(
                f"{path}, line {reader.line_num}: {fault}; expected segment,class,score; mend it, or "
                "delete the file to have the labels read from --eval_data_pattern again"
            ) from None
    return labels


def _rated(data_pattern):
    import tensorflow as tf

    from tfvc.data import raw, records, sources

    labels, copies = {}, sources.Copies()
    for name in records.files(data_pattern):
        path, zipped, size = sources.locate(name, copies)
        if size >= 0 and not sources.harmless(path, zipped):
            raise ValueError(f"{files.shown(name)}: damaged (the length of a record); mend or remove it")
        try:
            for batch in raw.untuned(raw.stored(path, "GZIP" if zipped else "").batch(_BATCH)):
                labels.update(_parsed(batch, files.shown(name)))
        except tf.errors.OpError as error:  # a ranking on part of the labels would be another number
            reason = files.first_line(error)
            raise ValueError(
                f"{files.shown(name)}: not whole, or no records of videos ({reason}); mend or remove it"
            ) from None
    if not labels:
        raise ValueError(f"--eval_data_pattern={data_pattern}: no record has segment labels")
    return labels


def _parsed(serialized, path):
    """The rated segments of a batch of records, as (key, score) pairs in their order."""
    import tensorflow as tf

    context, _, _ = tf.io.parse_sequence_example(
        serialized,
        context_features={
            "id": tf.io.FixedLenFeature([], tf.string, ""),
            "video_id": tf.io.FixedLenFeature([], tf.string, ""),
            "segment_labels": tf.io.RaggedFeature(tf.int64),
            "segment_start_times": tf.io.RaggedFeature(tf.int64),
            "segment_scores": tf.io.RaggedFeature(tf.float32),
        },
    )
    ids = tf.where(context["id"] == "", context["video_id"], context["id"]).numpy()
    columns = [context[f"segment_{name}"].to_list() for name in ("labels", "start_times", "scores")]
    for video, *rated in zip(ids, *columns, strict=True):
        name = video.decode("utf-8", "surrogateescape")
        if len(set(map(len, rated))) > 1:
            raise ValueError(
                f"{path}: record {name!r} has {', '.join(str(len(part)) for part in rated)} segment labels, "
                "start times and scores; expected as many of each"
            )
        for c, start, score in zip(*rated, strict=True):
            yield (f"{name}:{start}", c), score


def main(argv=None):
    """The command; see the module."""

    def run(arguments):
        if not arguments.submission_file:
            raise ValueError("no --submission_file; expected what starter.inference --segment_labels wrote")
        labels = read_labels(arguments.eval_data_pattern, arguments.label_cache)
        found = evaluate(labels, arguments.submission_file, arguments.top_n)
        print(f"Num classes: {len(found)} | mAP@{arguments.top_n}: {np.mean(list(found.values())):.6f}")

    flags.command("starter.segment_eval_inference", _DOC, _FLAGS, run, argv)


if __name__ == "__main__":
    main()
