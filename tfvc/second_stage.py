"""What decides a run: the classifier that reads the trained network's vector, or the network's probabilities.

A run with `second_stage.name=svm` has besides its model `second_stage.npz` and `second_stage.json` (arrays
and plain values, see `tfvc.estimators.store`), with `second_stage.thresholds=tuned` also `thresholds.json`.
"""

import math
from dataclasses import replace

from tfvc import files, inference, multilabel, workdir

NAME = "second_stage"  # of the files
_THRESHOLDS = "thresholds.json"
_MADE = (f"{NAME}.npz", f"{NAME}.json", _THRESHOLDS, "features.csv", "elimination.csv")
_MADE += ("importances.png", "elimination.png")
_REMEDY = "put back this run's own, or start the same train command again"
_HALF = 0.5
_FOLDS = 3  # where there is no validation part


def fit(run, model, train, validation, notes=print):
    """Fits the second stage of a run, and tunes its thresholds, as its recipe says; draws what it did.

    **Source**: Pouyanfar et al. 2019 (MIPR), Algorithm 1; Pouyanfar, Wang, Chen 2019, section 2.
    **Differs**: where there is no validation part, three folds of the training part score a round (said).

    Args:
        run: `tfvc.workdir.Run`, trained.
        model: its own, loaded.
        train, validation: finite datasets of (inputs, labels); validation None = there is none, and no
            threshold to be tuned.
        notes: function of a line that the run should keep.
    """
    stage, network = run.recipe.second_stage, _network(run, model)
    clear(run.path)
    if stage.name == "svm":
        from tfvc import estimators

        vectors, truth = _vectors(*_over(network, train))
        held = () if validation is None else _vectors(*_over(network, validation))
        folds = stage.cv or (0 if held else _FOLDS)
        if not held and not stage.cv and stage.eliminate:
            notes(f"second stage: no validation part, so {_FOLDS} folds of the training clips score a round")
        found = estimators.RankedElimination(
            estimators.LabelPowersetClassifier(
                estimators.WeightedLinearSVM(C=stage.C, scores=stage.scores, random_state=run.seed),
                weights=stage.weights,
            ),
            step=stage.step,
            patience=stage.patience,
            stop=stage.stop,
            eliminate=stage.eliminate,
            cv=folds or None,
            trees=stage.trees,
            random_state=run.seed,
        )
        found.fit(vectors, truth, *(held if held and not folds else ()))
        estimators.store.save(found, run.path / NAME, files.sha256(run.path / "model.keras"))
        kept, sets = int(found.support_.sum()), len(found.estimator_.label_sets_)
        notes(f"second stage: {kept} of {vectors.shape[1]} features, {sets} label sets, C={stage.C:g}")
        if stage.eliminate and stage.stop == "text" and kept == vectors.shape[1]:
            notes(
                f"no feature was dropped: {stage.patience * stage.step} fewer scored no better, and a tie "
                "ends it; second_stage.patience or second_stage.step let it go on"
            )
        _show(run, model, found)
    if stage.thresholds == "tuned":
        found, truth = _over(network, validation)
        untuned = replace(run, recipe=replace(run.recipe, second_stage=replace(stage, thresholds="none")))
        best = multilabel.thresholds(truth, _decision(untuned)(found)[1])
        files.write_json(run.path / _THRESHOLDS, dict(zip(run.facts.classes, map(float, best), strict=True)))
        shown = ", ".join(f"{name} {value:.3g}" for name, value in zip(run.facts.classes, best, strict=True))
        notes(f"thresholds, tuned on the validation part: {shown}")


def clear(folder):
    """Removes what `fit` wrote in a run's folder: it is of another network, or of other settings."""
    for name in _MADE:
        (folder / name).unlink(missing_ok=True)


def load(run):
    """The second stage of a run: a fitted `RankedElimination`; None where it has none.

    Raises:
        FileNotFoundError, ValueError: its files are gone, not what `fit` wrote, or of another `model.keras`.
    """
    if run.recipe.second_stage.name == "none":
        return None
    from tfvc import estimators

    model = run.path / "model.keras"
    network = files.sha256(model) if model.is_file() else ""  # without it nothing is asked of the stage
    found = estimators.store.load(run.path / NAME, network, _REMEDY)
    labels, classes = found.estimator_.label_sets_.shape[1], len(run.facts.classes)
    if labels != classes:
        raise ValueError(f"{run.path / NAME}.npz: of {labels} labels, and the run has {classes}; {_REMEDY}")
    return found


def thresholds(run):
    """A threshold for each label, float64 (C,); None where they were not tuned.

    Raises:
        FileNotFoundError, ValueError: the file is gone, or not what `fit` wrote.
    """
    import numpy as np

    if run.recipe.second_stage.thresholds == "none":
        return None
    path = run.path / _THRESHOLDS
    tree = files.read_json(path, _REMEDY)
    fine = isinstance(tree, dict) and list(tree) == list(run.facts.classes)
    if not fine or not all(isinstance(v, float) and math.isfinite(v) for v in tree.values()):
        raise ValueError(f"{path}: not the thresholds of this run; {_REMEDY}")
    return np.array(list(tree.values()))


def decide(run, model):
    """The function that decides what a run answers.

    Args:
        run: `tfvc.workdir.Run`, trained.
        model: of it, all outputs.

    Returns:
        function of a batch of inputs (dict of arrays) that gives labels, int (B, C), 0 or 1, and scores,
        float (B, C): of the second stage where the run has one, else of the network. A label is given where
        its score is above its threshold (tuned, or 0.5); by the second stage without tuned thresholds, where
        it is in the label set that it votes for; in a run with one label a clip, where its score is highest.

    Raises:
        FileNotFoundError, ValueError: a file of its second stage is gone or damaged.
    """
    network, decision = _network(run, model), _decision(run)
    return lambda inputs: decision(network(inputs))


def decides(run):
    """Whether more than the best class is said of a clip: of several labels, or by a second stage."""
    return run.facts.multi_label or run.recipe.second_stage.name != "none"


def layered(run, model):
    """What a run answers, as a function of tensors for an exported graph; it decides as `decide` does.

    Args:
        run: `tfvc.workdir.Run`.
        model: of it, all outputs.

    Returns:
        function of inputs by name that gives what the model gives and, where clips have several labels or a
        second stage decides, `labels` int32 (N, C) and `label_scores` float32 (N, C). Its attribute
        `variables` holds the second stage's own.
    """
    import keras

    stage, limits = load(run), thresholds(run)
    several, layer = run.facts.multi_label, None
    if stage:
        from tfvc import estimators

        model = _with_vector(model)
        layer = estimators.layer_of(stage)

    def answer(inputs):
        found = workdir.outputs_of(model, inputs)
        if not (stage or several):
            return found
        labels, scores = None, found["probabilities"]
        if stage:
            decided = layer(found.pop("vector"))
            labels, scores = decided["labels"], decided["scores"]
        if several and (labels is None or limits is not None):
            labels = keras.ops.cast(scores > (_HALF if limits is None else limits), "int32")
        return found | {"labels": labels, "label_scores": scores}

    answer.variables = layer.variables if stage else []
    return answer


def measures(run, model, dataset):
    """The measures of a run's decision, and of its network alone, over a dataset of (inputs, labels).

    Args:
        run: `tfvc.workdir.Run`.
        model: its own, loaded.
        dataset: finite.

    Returns:
        two dicts, of `tfvc.multilabel.measures`; in a run with one label a clip, of `accuracy`.
    """
    found, truth = _over(_network(run, model), dataset)
    alone = replace(run.recipe.second_stage, name="none", thresholds="none")
    network = replace(run, recipe=replace(run.recipe, second_stage=alone))
    results = []
    for labels, scores in (_decision(one)(found) for one in (run, network)):
        if run.facts.multi_label:
            results.append(multilabel.measures(truth, labels, scores, run.facts.classes))
        else:
            results.append({"accuracy": float((labels.argmax(1) == truth.argmax(1)).mean())})
    return tuple(results)


def vectors_of(run, parts=("train", "test")):
    """What the network of a run makes of its own clips, second stage or not.

    Returns:
        dict, part -> (vectors float64 (N, D), labels int (N, C), probabilities (N, C)).

    Raises:
        ValueError: the network has no layer `embedding`.
    """
    from tfvc import evaluate
    from tfvc.data import pipeline

    with_vector, found = replace(run.recipe.second_stage, name="svm"), {}
    network = _network(replace(run, recipe=replace(run.recipe, second_stage=with_vector)), run.model())
    for part in parts:
        source = evaluate.clips_of(run, run.recipe, part=part)[0]
        with pipeline.readable(source.folder):
            batches = pipeline.batches(source, run.recipe.train.batch_size)
            values, truth = _over(network, ((inputs, labels) for inputs, labels, _ in batches))
        found[part] = (*_vectors(values, truth), values["probabilities"])
    return found


def files_of(run):
    """The files of a run that decide, besides its model: what an export takes along."""
    stage = run.recipe.second_stage
    found = [run.path / f"{NAME}.{end}" for end in ("npz", "json")] if stage.name != "none" else []
    return found + ([run.path / _THRESHOLDS] if stage.thresholds != "none" else [])


def of_features(model, modalities):
    """The modality that each feature of the vector comes from; "joint" where it is made of several.

    Args:
        model: a network with the layer `embedding`.
        modalities: in the order in which their vectors are joined.
    """
    width = model.get_layer("embedding").output.shape[-1]
    there = {layer.name: layer for layer in model.layers}
    sizes = [there[f"{m}_dense"].units if f"{m}_dense" in there else 0 for m in modalities]
    if sum(sizes) != width:
        return ["joint"] * width
    return [m for m, size in zip(modalities, sizes, strict=True) for _ in range(size)]


def _with_vector(model):
    """The network with its vector `embedding` (B, D), float32, as an output `vector` besides its own."""
    import keras

    given = model.output if isinstance(model.output, dict) else {"probabilities": model.output}
    vector = keras.ops.cast(model.get_layer("embedding").output, "float32")
    return keras.Model(model.input, {**given, "vector": vector})


def _network(run, model):
    """A function: inputs -> `probabilities` (B, C) and, where a second stage reads it, `vector` (B, D)."""
    call = inference.as_function(model if run.recipe.second_stage.name == "none" else _with_vector(model))
    return lambda inputs: {k: v for k, v in call(inputs).items() if k in ("probabilities", "vector")}


def _decision(run):
    """A function: what `_network` gives -> labels and scores (B, C), as `decide` tells."""
    import numpy as np

    stage, limits, several = load(run), thresholds(run), run.facts.multi_label

    def answer(found):
        labels, scores = None, found["probabilities"]
        if stage:
            vectors, width = np.asarray(found["vector"], "float64"), stage.n_features_in_
            if vectors.shape[1] != width:
                what = f"of {width} features, and the network gives {vectors.shape[1]}"
                raise ValueError(f"{run.path / NAME}.npz: {what}; {_REMEDY}")
            inference.check_finite(vectors, run.path, "vectors")
            labels, scores = stage.predict(vectors), stage.label_scores(vectors)
        if not several:
            best = np.argmax(scores if labels is None else labels, axis=1)
            labels = np.eye(scores.shape[1], dtype=int)[best]
        elif labels is None or limits is not None:
            labels = (scores > (_HALF if limits is None else limits)).astype(int)
        return labels, scores

    return answer


def _over(network, dataset):
    """What the network gives of a dataset of (inputs, labels), by name, and the labels."""
    import numpy as np

    pairs = [(network(inputs), np.asarray(truth)) for inputs, truth in dataset]
    found = {name: np.concatenate([one[name] for one, _ in pairs]) for name in pairs[0][0]}
    return found, np.concatenate([truth for _, truth in pairs])


def _vectors(found, truth):
    """What the second stage is fitted to: float64 (N, D), and labels as 0 and 1."""
    return found["vector"].astype("float64"), (truth > 0).astype(int)


def _show(run, model, stage):
    """Writes `features.csv`, `elimination.csv`, and pictures of both."""
    from tfvc import plots
    from tfvc.models._av import PATHS_OF
    from tfvc.recipe import read_by

    of = of_features(model, [PATHS_OF[stream] for stream in read_by(run.recipe)])
    kept = stage.support_
    rows = zip(range(len(of)), of, stage.importances_.tolist(), kept.astype(int).tolist(), strict=True)
    files.write_csv(run.path / "features.csv", [["feature", "modality", "importance", "kept"], *rows])
    pictures = {"importances.png": plots.importances(stage.importances_, of, kept)}
    if run.recipe.second_stage.eliminate:
        score = [[int(left), float(value)] for left, value in stage.scores_]
        files.write_csv(run.path / "elimination.csv", [["features", "micro_f1"], *score])
        pictures["elimination.png"] = plots.elimination(score, int(kept.sum()), "elimination")
    for name, figure in pictures.items():
        with files.aside(run.path / name) as temporary:
            figure.savefig(temporary, format="png", dpi=100)
