"""A finished run measured: accuracy or, of several labels, F1 and MAP; every class's precision and recall."""

import contextlib
import dataclasses
from pathlib import Path

from tfvc import board, cli, encoders, extract, files, inference, multilabel, second_stage, workdir
from tfvc.recipe import check, flatten, key_of, override

_DOC = """Measures a run on its own test part, or on another data set with the same classes (--data).

Writes <workdir>/evaluation, and for TensorBoard <workdir>/logs/evaluation: measures, precision-recall curves,
pictures, embeddings; adds "evaluation" to metrics.json.
--compare=RUN1,RUN2 measures two runs on the same clips instead: each measure, the difference and its 95 %
interval, by resampling the clips, in RUN1/compare/."""

_READING = (  # how to read the videos of --data; nothing that changes what the features are
    "data.kind",
    "data.lists",
    "data.list_number",
    "data.max_seconds",
    "data.max_pixels",
    "backbone.batch_size",
)
SETTABLE = ("train.batch_size", *_READING)
NAMES = {  # of measures, as they are printed
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
    recipe = settable(run.recipe, overrides, SETTABLE)
    several, metrics = run.facts.multi_label, run.metrics()  # these first: see `stored`
    model = run.model()
    source, part, (ids, truth, labels, scores) = decided(run, model, recipe, data, part, overrides)
    curves = board.Curves(source.classes)
    curves.update(truth, scores)
    result = {"part": part, "data": data or run.facts.source, "clips": len(truth)}
    tables = {}
    if several:
        result |= multilabel.measures(truth, labels, scores, source.classes)
        figures = _labels_figures(run, result, truth, labels, source.classes)
    else:
        best, guess = np.argmax(truth, axis=1), np.argmax(scores if labels is None else labels, axis=1)
        labels = np.eye(len(source.classes), dtype=int)[guess]
        result |= measures(best, guess, source.classes)
        tables["confusion"], figures = _confusion(result, best, guess, source.classes)
    paths = _paths(run, recipe, data, overrides)
    clips = board.clips_of(run, model, source, paths, ids, truth, labels)
    tables["classes"] = [list(result["classes"][0]), *(list(row.values()) for row in result["classes"])]
    with stored(run, metrics, result):
        _write(run.path, result, tables, figures, curves, clips)
    _show(result, run.path)
    return result


@contextlib.contextmanager
def stored(run, before, result):
    """What an evaluation writes, by one process at a time; at its end `metrics.json` has the result.

    Args:
        run: `tfvc.workdir.Run`.
        before: its metrics, as they were read before its model was.
        result: dict, what was measured.

    Raises:
        ValueError: the run was trained further meanwhile, so the result is of weights that are gone.
    """
    with workdir.results(run.path):
        now = run.metrics()
        if _trained(now) != _trained(before):
            raise ValueError(
                f"{run.path}: was trained further while it was measured; nothing was written: evaluate again"
            )
        files.sweep(run.path / "evaluation")
        files.sweep(run.path / "logs", "evaluation")
        yield
        files.write_json(run.path / "metrics.json", now | {"evaluation": result})


def _trained(metrics):
    """The part of a run's metrics that training wrote, as text: a NaN in it is no other NaN."""
    return repr({name: value for name, value in metrics.items() if name != "evaluation"})


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
    from tfvc.data import pipeline, shards

    classes, multi_label = list(run.facts.classes), run.facts.multi_label
    if not data:
        _refuse(overrides, "without --data no video is read")
        split = run.split()
        if part not in ("train", "validation", "test"):
            raise ValueError(f"part={part!r}: expected train, validation or test")
        folder, ids = run_records(run), split.get(part, [])
        extract.check_records(shards.read_manifest(folder), run.recipe, run.facts.made_with)
        return pipeline.Source(folder, run.facts.features, classes, multi_label, ids), part
    dataset = _dataset(run, recipe, data, overrides)
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


def _dataset(run, recipe, data, overrides):
    """The data set that a run was trained on, or that of `data`."""
    from tfvc.data import datasets

    if not data:
        return datasets.load(run.recipe.data, run.facts.source)
    own = "data.kind" in map(key_of, overrides)  # the run's kind is that of its own data
    kind = recipe.data.kind if own else "auto"
    reading = dataclasses.replace(recipe.data, kind=kind, classes="")  # the list of classes was the run's own
    return datasets.load(reading, data, least_classes=1)


def _paths(run, recipe, data, overrides):
    """Id -> path of a clip's file, "" without one; none, and a line, where the clips are gone."""
    try:
        return {clip.id: clip.path for clip in _dataset(run, recipe, data, overrides).clips}
    except (OSError, ValueError) as error:
        print(f"no pictures of clips: {files.first_line(error)}")
        return {}


def _refuse(overrides, reason):
    """Nothing is accepted and then not used."""
    for text in overrides:
        if key_of(text) in _READING:
            raise ValueError(f"--set={text}: {reason}; leave it out")


def decided(run, model, recipe, data="", part="test", overrides=()):
    """The clips that a run is measured on, and what it says of them.

    Args:
        run, recipe, data, part, overrides: as of `clips_of`.
        model: of the run, all outputs.

    Returns:
        `(pipeline.Source, part, (ids, truth (N, C), labels (N, C) or None, scores (N, C)))`, in the order of
        the records.

    Raises:
        ValueError: as `evaluate`; a score that is NaN or infinite.
    """
    answer = _answer(run, model)  # first: without a whole second stage nothing else is worth doing
    source, part = clips_of(run, recipe, data, part, overrides)
    if not source.ids:
        raise ValueError(
            f"{run.path}: the part {part!r} of this run has no clip; expected a run with a {part} part"
        )
    found = ids, _, _, scores = _predicted(answer, source, recipe.train.batch_size)
    inference.check_finite(scores, run.path, ids=ids)
    return source, part, found


def _answer(run, model):
    """A function: a batch of inputs as arrays -> (labels (B, C) or None, scores (B, C))."""
    if second_stage.decides(run):
        return second_stage.decide(run, model)
    found = inference.as_function(model)
    return lambda inputs: (None, found(inputs)["probabilities"])


def _predicted(answer, source, batch_size):
    """Ids, truth (N, C), labels (N, C) or None, scores (N, C), in the order of the records."""
    import numpy as np

    from tfvc.data import pipeline

    found = []
    with pipeline.readable(source.folder):
        for inputs, truth, ids in pipeline.batches(source, batch_size):
            given = {name: x.numpy() for name, x in inputs.items()}
            found.append((ids.numpy(), truth.numpy(), *answer(given)))
    ids, truth, labels, scores = zip(*found, strict=True)
    labels = None if labels[0] is None else np.concatenate(labels)
    return [i.decode() for i in np.concatenate(ids)], np.concatenate(truth), labels, np.concatenate(scores)


def _confusion(result, truth, guess, classes):
    """The confusion matrix as the rows of a table, and as a picture, by name."""
    from sklearn.metrics import confusion_matrix

    from tfvc import plots

    matrix = confusion_matrix(truth, guess, labels=range(len(classes)))
    rows = [[c, *row] for c, row in zip(classes, matrix.tolist(), strict=True)]
    title = f"{result['part']}, {result['clips']} clips, accuracy {result['accuracy']:.3f}"
    return [["true \\ predicted", *classes], *rows], {"confusion": plots.confusion(matrix, classes, title)}


def _labels_figures(run, result, truth, labels, classes):
    from sklearn.metrics import multilabel_confusion_matrix

    from tfvc import plots

    title = f"{result['part']}, {result['clips']} clips, micro F1 {result['micro_f1']:.3f}"
    bars = plots.f1_bars({run.recipe.model: [row["f1"] for row in result["classes"]]}, classes, title)
    counts = multilabel_confusion_matrix(truth > 0, labels)  # (C, 2, 2)
    return {"f1": bars, "decisions": plots.decisions(counts, classes, title)}


def _write(path, result, tables, figures, curves, clips):
    """The tables, the pictures, and the board."""
    from tfvc import plots

    folder = path / "evaluation"
    for name, rows in tables.items():
        files.write_csv(folder / f"{name}.csv", rows)
    for name, figure in figures.items():
        with files.aside(folder / f"{name}.png") as temporary:
            figure.savefig(temporary, format="png", dpi=100)
    scalars = {name: value for name, value in result.items() if isinstance(value, float)}
    for row in result["classes"]:
        of = {name: row[name] for name in ("f1", "ap") if row.get(name) is not None}
        scalars |= {f"{name}/{row['class']}": value for name, value in of.items()}
    pictures = {name: plots.pixels(figure) for name, figure in figures.items()}
    board.write(path / "logs" / "evaluation", scalars, curves, pictures, clips)


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
    shown = ", ".join(f"{NAMES[name]} {result[name]:.4f}" for name in (*names, "macro_f1"))
    print(f"{result['part']}: {shown} on {result['clips']} clips; see {files.shown(path / 'evaluation')}")


def main(argv=None):
    def run(arguments):
        if "compare" in arguments.given:
            from tfvc import compare

            return compare.of_arguments(arguments)
        if "seed" in arguments.given:
            raise cli.Usage("--seed: draws the resamples of --compare, and there is none; leave it out")
        evaluate(arguments.workdir, arguments.data, overrides=arguments.set, on_corrupt=arguments.on_corrupt)
        return None

    cli.command("tfvc.evaluate", _DOC, ("workdir", "data", "set", "on_corrupt", "compare", "seed"), run, argv)


if __name__ == "__main__":
    main()
