"""What only the data can tell of a run on clips: classes, rows, weights; and the model made to measure."""

from dataclasses import replace
from pathlib import Path

from tfvc import encoders, extract, files, names, workdir
from tfvc import recipe as recipes
from tfvc.plan import absolute, source_of


def gather(recipe, data, seed):
    """What the data tells, extracted first where that has not been done, and the split.

    Args:
        recipe: a resolved `tfvc.recipe.Recipe`, not of data.kind yt8m.
        data: clips or records; "" = the embedded demo set.
        seed: of the split.

    Returns:
        `(workdir.Facts, {"train": ids, "validation": ids, "test": ids})`.

    Raises:
        ValueError, FileNotFoundError: as `tfvc.train.train`; what a model or a measure cannot do with these
            data is told before anything is extracted.
    """
    from tfvc.data import datasets, pipeline, shards

    dataset = datasets.load(recipe.data, data)
    _check_labels(recipe, dataset)
    if dataset.kind == "records":
        records = Path(data)
        manifest = shards.read_manifest(records)
        extract.check_records(manifest, recipe)
        weights, vocabulary = _weights_of(manifest, recipe), manifest.vocabulary
    else:
        _split(dataset, recipe, seed)  # what cannot be split should not wait for the extraction either
        loaded = encoders.load(recipe, dataset.kind == "demo", [clip.text for clip in dataset.clips])
        weights, vocabulary = loaded.weights, loaded.vocabulary
        # A model that cannot be built should not wait for the extraction; any T and width will do here.
        trial = [
            replace(r, shape=(1, *(r.shape[1:] if r.shape[2:] or r.dtype == "int32" else (8,))))
            for r in loaded.rows
        ]
        _build(
            recipe,
            _read(recipe, trial),
            len(dataset.classes),
            dataset.multi_label,
            _standardized(recipe, weights),
            len(vocabulary),
        )
        records = extract.extract(dataset, recipe, encoders=loaded)
        manifest = shards.read_manifest(records)
    split = _split(dataset, recipe, seed, manifest.ids)
    frames = recipe.data.frames or pipeline.mean_frames(manifest)
    facts = workdir.Facts(
        dataset=dataset.name,
        source=source_of(recipe, data),
        records=absolute(str(records)),
        classes=list(dataset.classes),
        features=[
            replace(row, shape=(encoders.rows_of_clip(recipe, row.name, frames), *row.shape[1:]))
            for row in _read(recipe, manifest.features, records)
        ],
        listing=dataset.digest("text" in recipes.read_by(recipe)),
        multi_label=dataset.multi_label,
        weights=weights["frames"],
        audio_weights=weights["audio"],
        text_weights=weights["text"],
        vocabulary=list(vocabulary),
        standardized=_standardized(recipe, weights),
    )
    shapes = ", ".join(f"{row.name} {row.shape} {row.dtype}" for row in facts.features)
    parts = {"frames": f"backbone {recipe.backbone.name}", "audio": recipe.audio.name, "text": "words"}
    for name in recipes.read_by(recipe):
        facts.say(f"{parts[name]}: weights {weights[name]}")
    facts.say(f"data set {facts.dataset}: {len(facts.classes)} classes; {shapes}")
    for line in (*dataset.notes, *split.notes):
        facts.say(line)
    return facts, split.parts()


def build(recipe, facts):
    """The model of a run, fresh; raises ValueError where recipe and data do not go together."""
    data = (len(facts.classes), facts.multi_label, facts.standardized, len(facts.vocabulary))
    return _build(recipe, facts.features, *data)


def _build(recipe, rows, num_classes, multi_label, standardize=False, vocabulary=0):
    arguments = dict(recipe.model_args)
    if "multi_label" in names.keyword_defaults(recipe.model):
        arguments["multi_label"] = multi_label
    if standardize:
        arguments["standardize"] = True
    if vocabulary and any(row.name == "text" for row in rows):
        arguments["vocabulary"] = vocabulary
    model = names.load("models", recipe.model).build_model(rows, num_classes, **arguments)
    if recipe.second_stage.name != "none" and "embedding" not in {layer.name for layer in model.layers}:
        raise ValueError(
            f"second_stage.name={recipe.second_stage.name}: this {recipe.model} has no layer embedding, that "
            "it would read; leave it out"
        )
    return model


def _split(dataset, recipe, seed, ids=None):
    from tfvc.data import splits

    split = splits.split(dataset, recipe.data, seed, ids)
    if recipe.second_stage.thresholds == "tuned" and not split.validation:
        raise ValueError(
            "second_stage.thresholds=tuned: there is no validation part to tune them on; expected "
            "data.validation_fraction above 0"
        )
    return split


def _check_labels(recipe, dataset):
    """The recipe does not know whether clips have several labels; the data do."""
    train, several = recipe.train, dataset.multi_label
    if "multi_label" not in names.keyword_defaults(recipe.model):
        if several:
            able = [
                name for name in names.available("models") if "multi_label" in names.keyword_defaults(name)
            ]
            raise ValueError(
                f"{dataset.root}: some clips have several labels, and {recipe.model} gives one (softmax); "
                f"expected one label a clip, or another --model: {', '.join(able)}"
            )
        return
    what = f"{dataset.root}: {'some clips have several labels' if several else 'every clip has one label'}"
    if several == (train.monitor == "accuracy") and train.monitor != "loss":
        expected = "micro_f1, gap, hit_at_one or loss" if several else "accuracy or loss"
        raise ValueError(f"{what}, so there is no train.monitor={train.monitor}; expected {expected}")
    if not several and recipe.second_stage.thresholds == "tuned":
        raise ValueError(f"{what}, so there is nothing for second_stage.thresholds=tuned; leave it out")
    if several and train.loss == "categorical":
        raise ValueError(f"{what}; train.loss=categorical is for one; expected auto, binary or cross_entropy")


def _read(recipe, rows, records=""):
    """The rows that the model reads, in its order."""
    there = {row.name: row for row in rows}
    for name in recipes.read_by(recipe):
        if name not in there:
            raise ValueError(
                f"{records}: {names.suggest('stream', name, there)}; {recipe.model} reads it: extract again"
            )
    return [there[name] for name in recipes.read_by(recipe)]


def _standardized(recipe, weights):
    wanted = recipe.backbone.standardize
    if wanted == "auto":
        drawn = any(weights[name].startswith("random") for name in recipes.read_by(recipe))
        return drawn and "standardize" in names.keyword_defaults(recipe.model)
    return wanted == "yes"


def standardizers(model, rows):
    """(row, its layer) of a model that standardises its features; of one stream, the layer bears no name."""
    there = {layer.name: layer for layer in model.layers}
    pairs = [(row, there.get("standardize") or there.get(f"standardize_{row.name}")) for row in rows]
    return [(row, layer) for row, layer in pairs if layer]


def _weights_of(manifest, recipe):
    """Stream -> sentence of the weights behind given records; ValueError if the user asked for others.

    The published ones, which are the default, take what is there: the sentence is printed and stored.
    """
    there = extract.weights_of(manifest)
    asked = {"frames": recipe.backbone.weights, "audio": recipe.audio.weights, "text": recipe.text.weights}
    for name in recipes.read_by(recipe):
        if asked[name] in ("imagenet", "none", "audioset", "flickr", "glove"):
            continue
        drawn = asked[name] == "random"
        wanted = "random (" if drawn else f"sha256 {files.sha256(asked[name])[:12]}"
        if name == "audio" and not drawn:  # its digest is of the tensors, not of the file
            wanted = Path(asked[name]).name
        if wanted not in there[name]:
            field = encoders.WEIGHTS[name]
            raise ValueError(
                f"{manifest.folder}: these records were made with weights {there[name]}, "
                f"{field}={asked[name]}; leave {field} out, or extract again"
            )
    return there


def has_statistics(model, facts):
    """Whether a model has statistics of features as wide as these."""
    found = standardizers(model, facts.features)
    widths = [layer.mean.shape[0] == row.shape[-1] for row, layer in found]
    return len(found) == len(facts.features) and all(widths)
