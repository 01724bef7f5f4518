"""A finished run measured: accuracy or, of several labels, F1 and MAP; every class's precision and recall."""

import dataclasses
from pathlib import Path

from tfvc import cli, encoders, extract, files, multilabel, second_stage, workdir
from tfvc.recipe import check, flatten, key_of, override

_DOC = """Measures a run on its own test part, or on another data set with the same classes (--data).

Writes <workdir>/evaluation and the scalars of TensorBoard; adds "evaluation" to metrics.json."""

_READING = (  # how to read the videos of --data; nothing that changes what the features are
    "data.kind",
    "data.lists",
    "data.list_number",
    "data.max_seconds",
    "data.max_pixels",
    "backbone.batch_size",
)
_SETTABLE = ("train.batch_size", *_READING)
_NAMES = {  # of measures, as they are printed
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "hamming_loss": "Hamming loss",
    "map": "MAP",
    "map_labels": "MAP over labels",
}


def evaluate(run_folder, data="", part="test", overrides=(), on_corrupt="stop"):
    """Measures a run.

    Args:
        run_folder: the folder of the run.
        data: "" = the run's own `part`; else videos, a manifest or records: all of their clips.
        part: `test`, `validation` or `train`.
        overrides: `train.batch_size=...`, and how to read the videos of `data`: `data.kind`, `data.lists`,
            `data.list_number`, `data.max_seconds`, `data.max_pixels`, `backbone.batch_size`.
        on_corrupt: of a run on YouTube-8M's records: `stop` at what is damaged, or `skip` it.

    Returns, of a run on YouTube-8M's records, what `tfvc.yt8m.evaluate.evaluate` does; else:
        dict of `part`, `clips`, `accuracy`, `balanced_accuracy` (mean recall of the classes that
        occur), `macro_f1` and `classes`: a list of class, precision, recall, f1, clips. Of a run whose clips
        have several labels, `part`, `clips` and what `tfvc.multilabel.measures` gives: it is measured by the
        labels that the run decides on, with its second stage and its thresholds where it has them.

    Raises:
        ValueError: the data has other classes than the run, or no clip; records that were made otherwise
            than the run's; an override that has no use here.
        FileNotFoundError: no run there, or one that has not finished.
    """
    import numpy as np

    run = workdir.load(run_folder)
    if run.facts.kind == "yt8m":
        from tfvc.yt8m import evaluate as of_records

        return of_records.evaluate(run, data, part, overrides, on_corrupt)
    if on_corrupt != "stop":
        raise ValueError(f"--on_corrupt={on_corrupt}: only for runs on records by pattern; leave it out")
    recipe = settable(run.recipe, overrides, _SETTABLE)
    several, metrics = run.facts.multi_label, run.metrics()
    answer = _answer(run)  # first: without a whole run nothing else is worth doing
    source, part = clips_of(run, recipe, data, part, overrides)
    if not source.ids:
        raise ValueError(
            f"{run.path}: the part {part!r} of this run has no clip; expected a run with a {part} part"
        )
    truth, labels, scores = _predicted(answer, source, recipe.train.batch_size)
    result = {"part": part, "data": data or run.facts.source, "clips": len(truth)}
    if several:
        result |= multilabel.measures(truth, labels, scores, source.classes)
        figure = _labels_figure(run, result, source.classes)
        _write(run.path, metrics, result, "f1", figure)
    else:
        truth, guess = np.argmax(truth, axis=1), np.argmax(scores if labels is None else labels, axis=1)
        result |= measures(truth, guess, source.classes)
        figure = _confusion(run.path / "evaluation", result, truth, guess, source.classes)
        _write(run.path, metrics, result, "confusion", figure)
    _show(result, run.path)
    return result


def measures(truth, guess, classes):
    """Accuracy, balanced accuracy, macro F1 and the table of the classes, by scikit-learn.

    Precision of a class that was never predicted, and recall of one that never occurs, count as 0;
    the balanced accuracy and the macro F1 are means over the classes that occur.

    Example:
        >>> measures([0, 0, 1, 1], [0, 1, 1, 1], ["run", "walk"])["balanced_accuracy"]
        0.75
    """
    import numpy as np
    from sklearn.metrics import precision_recall_fscore_support

    truth, guess = np.asarray(truth), np.asarray(guess)
    table = precision_recall_fscore_support(truth, guess, labels=range(len(classes)), zero_division=0)
    rows = [
        {"class": name, "precision": float(p), "recall": float(r), "f1": float(f), "clips": int(n)}
        for name, p, r, f, n in zip(classes, *table, strict=True)
    ]
    occur = [row for row in rows if row["clips"]]
    return {
        "accuracy": float(np.mean(truth == guess)),
        "balanced_accuracy": float(np.mean([row["recall"] for row in occur])),
        "macro_f1": float(np.mean([row["f1"] for row in occur])),
        "classes": rows,
    }


def settable(recipe, overrides, allowed):
    """The recipe of a finished run with `overrides`, which may touch only what is in `allowed`."""
    for text in overrides:
        key = key_of(text)
        if key in flatten(recipe) and not any(
            key == a or (a.endswith(".") and key.startswith(a)) for a in allowed
        ):
            shown = ", ".join(a + ("*" if a.endswith(".") else "") for a in allowed)
            raise ValueError(f"--set={text}: fixed since the run was trained; settable here: {shown}")
    return check(override(recipe, overrides))


def run_records(run):
    """The folder of the records that a run was trained on; extracted again where it is gone."""
    folder = Path(run.facts.records)
    if (folder / "manifest.json").is_file():
        return folder
    from tfvc.data import datasets

    print(f"the records of this run are gone ({files.shown(folder)}); extracting them again")
    try:
        dataset = datasets.load(run.recipe.data, run.facts.source)
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder}: the records are gone, and the videos cannot be read: {error}") from None
    return extract.extract(dataset, run.recipe, out=folder, encoders=encoders.of_run(run, whole=True))


def clips_of(run, recipe, data="", part="test", overrides=()):
    """The clips that a run is measured on.

    Args:
        run: `tfvc.workdir.Run`.
        recipe: its own, with the settings that `evaluate` allows.
        data, part, overrides: as of `evaluate`.

    Returns:
        `(pipeline.Source, part)`; the part is `all` where `data` is given.

    Raises:
        ValueError: as `evaluate`.
    """
    from tfvc.data import datasets, pipeline, shards

    classes, multi_label = list(run.facts.classes), run.facts.multi_label
    if not data:
        _refuse(overrides, "without --data no video is read")
        split = run.split()
        if part not in ("train", "validation", "test"):
            raise ValueError(f"part={part!r}: expected train, validation or test")
        folder, ids = run_records(run), split.get(part, [])
        return pipeline.Source(folder, run.facts.features, classes, multi_label, ids), part
    own = "data.kind" in map(key_of, overrides)  # the run's kind is that of its own data
    kind = recipe.data.kind if own else "auto"
    reading = dataclasses.replace(recipe.data, kind=kind, classes="")  # the list of classes was the run's own
    dataset = datasets.load(reading, data, least_classes=1)
    if dataset.multi_label and not multi_label:
        raise ValueError(f"{data}: clips with several labels; expected one label each, as this run gives")
    strange = sorted(set(dataset.classes) - set(classes))
    if strange:
        raise ValueError(f"{data}: classes {strange[:5]}; this run knows {len(classes)}: {classes[:5]} ...")
    if dataset.kind == "records":
        _refuse(overrides, f"{data} holds records, so no video is read")
        manifest = shards.read_manifest(data)
        extract.check_records(manifest, run.recipe, run.facts.made_with)
    else:
        folder = extract.extract(dataset, recipe, encoders=encoders.of_run(run, recipe))
        manifest = shards.read_manifest(folder)
    ids = [record["id"] for record in manifest.records if record["labels"]]
    return pipeline.Source(manifest.folder, run.facts.features, classes, multi_label, ids), "all"


def _refuse(overrides, reason):
    """Nothing is accepted and then not used."""
    for text in overrides:
        if key_of(text) in _READING:
            raise ValueError(f"--set={text}: {reason}; leave it out")


def _answer(run):
    """A function: a batch of inputs as arrays -> (labels (B, C) or None, scores (B, C))."""
    if second_stage.decides(run):
        return second_stage.decide(run)
    model = run.classifier()
    return lambda inputs: (None, model.predict_on_batch(inputs))


def _predicted(answer, source, batch_size):
    """Truth (N, C), labels (N, C) or None, scores (N, C), in the order of the records."""
    import numpy as np

    from tfvc.data import pipeline

    found = []
    with pipeline.readable(source.folder):
        for inputs, truth, _ in pipeline.batches(source, batch_size):
            found.append((truth.numpy(), *answer({name: x.numpy() for name, x in inputs.items()})))
    truth, labels, scores = zip(*found, strict=True)
    labels = None if labels[0] is None else np.concatenate(labels)
    return np.concatenate(truth), labels, np.concatenate(scores)


def _confusion(folder, result, truth, guess, classes):
    """Writes the confusion matrix as a table; returns it as a picture."""
    from sklearn.metrics import confusion_matrix

    from tfvc import plots

    matrix = confusion_matrix(truth, guess, labels=range(len(classes)))
    files.write_csv(
        folder / "confusion.csv",
        [["true \\ predicted", *classes]]
        + [[c, *row] for c, row in zip(classes, matrix.tolist(), strict=True)],
    )
    title = f"{result['part']}, {result['clips']} clips, accuracy {result['accuracy']:.3f}"
    return plots.confusion(matrix, classes, title)


def _labels_figure(run, result, classes):
    from tfvc import plots

    title = f"{result['part']}, {result['clips']} clips, micro F1 {result['micro_f1']:.3f}"
    return plots.f1_bars({run.recipe.model: [row["f1"] for row in result["classes"]]}, classes, title)


def _write(path, metrics, result, name, figure):
    """`classes.csv`, the picture, the board, and metrics.json with the result."""
    from tfvc import plots

    folder = path / "evaluation"
    files.write_csv(
        folder / "classes.csv", [list(result["classes"][0])] + [list(r.values()) for r in result["classes"]]
    )
    with files.aside(folder / f"{name}.png") as temporary:
        figure.savefig(temporary, format="png", dpi=100)
    _board(path / "logs" / "evaluation", result, name, plots.pixels(figure))
    files.write_json(path / "metrics.json", metrics | {"evaluation": result})


def _board(folder, result, name, picture):
    import tensorflow as tf

    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default(step=0):
        for measure, value in result.items():
            if isinstance(value, float):
                tf.summary.scalar(f"evaluation/{measure}", value)
        for row in result["classes"]:
            tf.summary.scalar(f"evaluation/f1/{row['class']}", row["f1"])
            if row.get("ap") is not None:
                tf.summary.scalar(f"evaluation/ap/{row['class']}", row["ap"])
        tf.summary.image(f"evaluation/{name}", picture[None])
    writer.close()


def _show(result, path):
    width, several = max(5, *(len(row["class"]) for row in result["classes"])), "micro_f1" in result
    print(f"{'class':{width}}  precision  recall     f1{'     ap' * several}  clips")
    for r in result["classes"]:
        numbers = f"{r['precision']:9.3f}  {r['recall']:6.3f}  {r['f1']:5.3f}"
        if several:
            numbers += "      -" if r["ap"] is None else f"  {r['ap']:5.3f}"
        print(f"{r['class']:{width}}  {numbers}  {r['clips']:5d}")
    names = (
        ("micro_f1", "hamming_loss", "map", "map_labels") if several else ("accuracy", "balanced_accuracy")
    )
    shown = ", ".join(f"{_NAMES[name]} {result[name]:.4f}" for name in (*names, "macro_f1"))
    print(f"{result['part']}: {shown} on {result['clips']} clips; see {files.shown(path / 'evaluation')}")


def main(argv=None):
    def run(arguments):
        evaluate(arguments.workdir, arguments.data, overrides=arguments.set, on_corrupt=arguments.on_corrupt)

    cli.command("tfvc.evaluate", _DOC, ("workdir", "data", "set", "on_corrupt"), run, argv)


if __name__ == "__main__":
    main()
