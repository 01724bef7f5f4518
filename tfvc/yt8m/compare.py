"""What a run on YouTube-8M's records says of videos, for `tfvc.compare`: the best predictions of each."""

import numpy as np

from tfvc import bootstrap, evaluate, inference, topk
from tfvc.compare import Answers
from tfvc.data import records
from tfvc.data.report import Report

_SETTABLE = ("train.batch_size",)


def answers(run, data="", overrides=(), on_corrupt="stop"):
    """The answers of a run; of a video its 20 best predictions are kept, and its labels.

    Args:
        run: `tfvc.workdir.Run` with `facts.kind == "yt8m"`.
        data, overrides, on_corrupt: as of `tfvc.yt8m.evaluate.evaluate`.

    Returns:
        `tfvc.compare.Answers`; no video is of a group.

    Raises:
        ValueError, FileNotFoundError: as there.
    """
    recipe = evaluate.settable(run.recipe, overrides, _SETTABLE)
    network = inference.as_function(run.model())
    source = records.Records(data or run.split()["test"], run.facts.features, len(run.facts.classes))
    report, found, ids, truth = Report(), [], [], []
    with records.readable():
        for inputs, labels, names in records.batches(
            source, recipe.train.batch_size, on_corrupt=on_corrupt, report=report
        ):
            predictions = network(inputs)["probabilities"]
            names = [name.decode("utf-8", "backslashreplace") for name in names.numpy()]
            inference.check_finite(predictions, run.path, ids=names)
            right, share, pairs = topk.summary(labels, predictions, topk.TOP)
            found.append([np.asarray(x) for x in (right, share, *pairs[:3])])
            ids += names
            truth += [tuple(np.flatnonzero(row).tolist()) for row in np.asarray(labels)]
    if report.faults:
        print(report.summary())
    if not any(truth):
        raise ValueError(f"{run.path}: no label in {len(ids)} records; expected labelled ones")
    found = [np.concatenate(column) for column in zip(*found, strict=True)]

    def measures(places):
        labels = [(k, label) for k, place in enumerate(places) for label in truth[place]]
        return bootstrap.of_rankings(
            *(column[places] for column in found), np.array(labels, int).reshape(-1, 2)
        )

    return Answers(ids, [""] * len(ids), truth, topk.TOP, measures)
