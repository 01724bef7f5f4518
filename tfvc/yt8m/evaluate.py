"""A run on YouTube-8M's records measured: GAP, Hit@1, PERR, mAP, and the average precision of every class."""

import os

import numpy as np

from tfvc import board, files, inference, metrics, training
from tfvc import evaluate as of_clips
from tfvc.data import records
from tfvc.data.report import Report

_SETTABLE = ("train.batch_size",)
_SHOWN = 10  # classes printed; all are in classes.csv


def evaluate(run, data="", part="test", overrides=(), on_corrupt="stop"):
    """Measures a run.

    Args:
        run: `tfvc.workdir.Run` with `facts.kind == "yt8m"`.
        data: "" = the run's own `part`; else a pattern of records.
        part: `test`, `validation` or `train`.
        overrides: `train.batch_size=...`.
        on_corrupt: `stop` at what is damaged, or `skip` it.

    Returns:
        dict of `part`, `data`, `clips`, `gap`, `hit_at_one`, `perr`, `map`, and `classes`: a list of class,
        average_precision, clips, for the classes that occur, most frequent first.

    Raises:
        ValueError: an override that has no use here; damage, when told to stop; no label in any record;
            scores that are not finite.
        FileNotFoundError: no such records, or a run that has not finished.
    """
    recipe = of_clips.settable(run.recipe, overrides, _SETTABLE)
    before = run.metrics()
    network = inference.as_function(run.model())
    if part not in ("train", "validation", "test"):
        raise ValueError(f"part={part!r}: expected train, validation or test")
    split = run.split()
    named = data or ",".join(split[part])
    source = records.Records(data or split[part], run.facts.features, len(run.facts.classes))
    report, clips, curves = Report(), 0, board.Curves(run.facts.classes)
    judged = training.measures(multi_label=True)
    by_class = metrics.MeanAveragePrecision(len(run.facts.classes))
    count = np.zeros(len(run.facts.classes), "int64")
    with records.readable():
        for inputs, labels, ids in records.batches(
            source, recipe.train.batch_size, on_corrupt=on_corrupt, report=report
        ):
            predictions = network(inputs)["probabilities"]
            inference.check_finite(predictions, run.path, ids=[os.fsdecode(i) for i in ids.numpy()])
            for metric in (*judged, by_class):
                metric.update_state(labels, predictions)
            curves.update(labels, predictions)
            count += np.count_nonzero(labels, axis=0)
            clips += len(labels)
    if not count.any():
        raise ValueError(f"{named}: no label in {clips} records; expected labelled ones")
    result = {"part": "all" if data else part, "data": named, "clips": clips}
    result |= {metric.name: float(metric.result()) for metric in (*judged, by_class)}
    precision = by_class.per_class()
    order = sorted(np.flatnonzero(count), key=lambda c: -count[c])
    result["classes"] = [
        {"class": run.facts.classes[c], "average_precision": float(precision[c]), "clips": int(count[c])}
        for c in order
    ]
    with of_clips.stored(run, before, result):
        _write(run.path, result, curves)
    _show(result, run.path)
    if result["part"] == "test" and split["test"] == split["validation"]:
        print(
            "data.test was not given: these are the validation part's, which chose the step that is reported"
        )
    if report.faults:
        print(report.summary())
    return result


def _write(path, result, curves):
    rows = result["classes"]
    files.write_csv(
        path / "evaluation" / "classes.csv", [list(rows[0]), *(list(row.values()) for row in rows)]
    )
    scalars = {name: result[name] for name in ("gap", "hit_at_one", "perr", "map")}
    board.write(path / "logs" / "evaluation", scalars, curves)


def _show(result, path):
    rows = result["classes"][:_SHOWN]
    width = max(5, *(len(row["class"]) for row in rows))
    print(f"{'class':{width}}  average precision  clips")
    for row in rows:
        print(f"{row['class']:{width}}  {row['average_precision']:17.3f}  {row['clips']:5d}")
    if len(result["classes"]) > _SHOWN:
        print(f"... and {len(result['classes']) - _SHOWN} classes more")
    measures = ", ".join(
        f"{text} {result[name]:.4f}"
        for name, text in (("gap", "GAP"), ("hit_at_one", "Hit@1"), ("perr", "PERR"), ("map", "mAP"))
    )
    where = files.shown(path / "evaluation")
    print(f"{result['part']}: {measures} on {result['clips']} clips; see {where}")
