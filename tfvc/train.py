"""From videos, or records, to a trained run: extract, split, fit, measure."""

import os
import shlex
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

from tfvc import cli, extract, files, names, workdir
from tfvc import recipe as recipes

_DOC = """Trains a model; extracts the features first where that has not been done.

Start the same command again after an interruption: it goes on where it stopped.
Without --data the embedded demo set is used, drawn on first use."""

_FLAGS = (
    "model",
    "fidelity",
    "data",
    "workdir",
    "set",
    "seed",
    "backbone",
    "strategy",
    "init_from",
    "dry_run",
)
_OPEN = ("train.epochs", "predict.")  # what may differ when a run is started again
_MADE_BY = (  # what records and run must have in common, or predict would decode other frames
    "data.fps",
    "data.channel_order",
    "data.interpolation",
    "backbone.name",
    "backbone.preprocessing",
    "backbone.size",
    "backbone.pooling",
    "backbone.precision",
    "backbone.dtype",
)


def train(recipe, *, data="", workdir="", seed=0, strategy="default", init_from=""):
    """Trains a run, goes on with it, or prints the results of one that is complete.

    Args:
        recipe: a resolved `tfvc.recipe.Recipe`.
        data: clips (folder, UCF-101, manifest) or records; "" = the embedded demo set.
        workdir: folder of the run; "" = `runs/<model>-<digest of recipe, data and seed>`.
        seed: of the split, the weights and the order.
        strategy: `default`, `mirrored` or `cpu:N`. The batch size is the global one.
        init_from: folder of a run whose weights are the start, by layer name.

    Returns:
        dict, what `metrics.json` holds: `validation` (of the epoch whose weights are reported), `test`
        (`accuracy`, `loss`, `clips`), epochs, steps, seconds, counts.

    Raises:
        ValueError: the folder holds another run (the differences are named); anything the data, the
            recipe or the records do not allow.
        FileNotFoundError: no such data, or no such weights.
        KeyboardInterrupt: a signal came; a checkpoint was saved.

    Example:
        >>> from tfvc import recipe, train
        >>> metrics = train.train(recipe.get("attention_boosted", demo=True))  # doctest: +SKIP
    """
    folder = Path(workdir or default_workdir(recipe, data, seed, init_from))
    old = _reopen(folder, recipe, data, seed, init_from)
    print("\n".join(_heading(recipe, data)))
    done = files.read_json(folder / "metrics.json") if old and (folder / "metrics.json").is_file() else None
    if done and (done["stopped_early"] or done["epochs"] >= recipe.train.epochs):
        print(f"this run is complete ({done['epochs']} epochs; asked for {recipe.train.epochs})")
        _closing(folder, done)
        return done
    if old and old.recipe.train.epochs != recipe.train.epochs:
        print(f"train.epochs={recipe.train.epochs} is in force (was {old.recipe.train.epochs})")
    return _train(folder, old, recipe, data, seed, strategy, init_from)


def default_workdir(recipe, data, seed, init_from=""):
    """`runs/<model>-<digest>`: the same command, the same folder.

    Example:
        >>> from tfvc import recipe
        >>> default_workdir(recipe.get("attention_boosted"), "", 0).startswith("runs/attention_boosted-")
        True
    """
    tree = {"recipe": recipes.to_json(recipe), "data": _absolute(data), "seed": seed}
    tree |= {"init_from": _absolute(init_from)} if init_from else {}
    return f"runs/{recipe.model}-{recipes.digest(tree)}"


def describe(recipe, data, folder):
    """Lines of `--dry_run`: every field, and what only the data can tell marked so."""
    unknown = recipes.FROM_DATA
    facts = {
        "classes": unknown,
        "frames per clip (T)": recipe.data.frames or unknown,
        "feature width (D)": unknown,
        "clips in training, validation, test": unknown,
        "steps per epoch": unknown,
    }
    rows = {**recipes.flatten(recipe), "workdir": folder, "--data": data or "the demo set", **facts}
    return [*_heading(recipe, data), *(f"{key} = {value}" for key, value in rows.items())]


def _train(folder, old, recipe, data, seed, strategy, init_from):
    from tfvc import strategy as strategies
    from tfvc import training

    started = time.perf_counter()
    devices = strategies.scope(strategy)  # before anything else touches a device
    other = workdir.load(init_from).model() if init_from else None
    facts, split = _facts(recipe, data, seed)
    facts.init_from = _absolute(init_from)
    _same_split(folder, old, facts, split)
    feed = _Feed(recipe, facts, split, seed)
    workdir.save(folder, recipe, facts, seed, split)

    training.start(seed, recipe.train.deterministic)
    with training.precision(recipe.train.precision), devices.scope():
        model = _build(recipe, facts.features, len(facts.classes), facts.multi_label, facts.standardized)
        if facts.standardized:
            model.get_layer("standardize").set_statistics(*feed.statistics())
        if other:
            print("\n".join([f"weights from {init_from}", *training.transfer(model, other)]))
    network, progress = training.fit(
        model,
        recipe.train,
        feed.training,
        feed.steps,
        feed.validation(),
        folder,
        multi_label=facts.multi_label,
    )
    training.keep(network, folder, progress, recipe.train.report)
    # From the file, as evaluate will: what is reported is what was saved.
    test = training.measure(workdir.load(folder).model(), feed.test(), facts.multi_label)
    reported = progress.best_epoch if recipe.train.report == "best" else progress.epoch
    row = progress.history[reported - 1]
    metrics = {
        "validation": {"accuracy": row["val_accuracy"], "loss": row["val_loss"], "epoch": reported},
        "test": {**test, "clips": len(split["test"])},
        "epochs": progress.epoch,
        "stopped_early": progress.epoch < recipe.train.epochs,
        "steps": progress.step,
        "batch_size": feed.batch,
        "classes": len(facts.classes),
        "clips": {part: len(ids) for part, ids in split.items()},
        "parameters": network.count_params(),
        "training_seconds": round(progress.seconds, 3),
        "seconds": round(time.perf_counter() - started, 3),
    }
    files.write_json(folder / "metrics.json", metrics)
    _closing(folder, metrics)
    return metrics


class _Feed:
    """The batches of a run. Says, and notes, where they are not what the recipe asks for."""

    def __init__(self, recipe, facts, split, seed):
        from tfvc.data import pipeline  # here, because it imports TensorFlow

        self._pipeline = pipeline
        self._recipe, self._facts, self._split, self._seed = recipe, facts, split, seed
        asked = recipe.train.batch_size
        self.batch = min(asked, len(split["train"]))
        if self.batch < asked:
            _note(facts, f"batch of {asked} shrunk to the {self.batch} training clips")
        left = len(split["train"]) % self.batch
        if recipe.train.drop_remainder and left:
            same = "" if recipe.train.shuffle else ", the same ones each time"
            _note(facts, f"{left} training clips make no full batch and are dropped in each epoch{same}")
        self._held = split["validation"] or split["test"]
        if not split["validation"]:
            _note(facts, "validation: the test part serves in each epoch")
        self._whole = recipe.train.drop_remainder and len(self._held) >= self.batch
        if recipe.train.drop_remainder and not self._whole:
            _note(facts, f"validation: {len(self._held)} clips are less than a batch, so none is dropped")
        self.steps = self._endless(0)[1]

    def training(self, first_step):
        """Infinite, shuffled as the recipe says, from a step on."""
        return self._endless(first_step)[0]

    def validation(self):
        """One pass over the validation part, or over the test part where there is none."""
        return self._once(self._held, drop_remainder=self._whole, cache_mb=self._recipe.data.cache_mb)

    def test(self):
        """One pass over all test clips."""
        return self._once(self._split["test"])

    def statistics(self):
        """Mean and variance of the training clips' features."""
        return self._pipeline.feature_statistics(self._source(self._split["train"]))

    def _endless(self, first_step):
        return self._pipeline.train_batches(
            self._source(self._split["train"]),
            self.batch,
            seed=self._seed,
            shuffle=self._recipe.train.shuffle,
            drop_remainder=self._recipe.train.drop_remainder,
            first_step=first_step,
            cache_mb=self._recipe.data.cache_mb,
        )

    def _once(self, ids, drop_remainder=False, **options):
        import tensorflow as tf

        dataset = self._pipeline.batches(
            self._source(ids), self.batch, drop_remainder=drop_remainder, **options
        )
        count = len(ids) // self.batch if drop_remainder else -(-len(ids) // self.batch)
        # Else Keras would warn at the end of each pass that the data ran out.
        return dataset.map(lambda inputs, labels, _: (inputs, labels)).apply(
            tf.data.experimental.assert_cardinality(count)
        )

    def _source(self, ids):
        f = self._facts
        return self._pipeline.Source(f.records, f.features, f.classes, f.multi_label, ids)


def _facts(recipe, data, seed):
    """What the data tells, and the split: `(workdir.Facts, {"train": ids, ...})`."""
    from tfvc.data import datasets, pipeline, shards, splits

    dataset = datasets.load(recipe.data, data)
    encoder = None
    if dataset.kind == "records":
        records = Path(data)
        _check_records(records, shards.read_manifest(records), recipe)
    else:
        encoder = extract.load_encoder(recipe, dataset, seed)
        rows = extract.feature_rows(recipe, encoder)
        # A model that cannot be built should not wait for the extraction; any T and width will do here.
        trial = [replace(r, shape=(1, 8) if len(r.shape) == 2 else (1, *r.shape[1:])) for r in rows]
        _build(recipe, trial, len(dataset.classes), dataset.multi_label)
        records = extract.extract(dataset, recipe, encoder=encoder, seed=seed)
    manifest = shards.read_manifest(records)
    weights = encoder.weights if encoder else str(manifest.settings["backbone.weights"])
    split = splits.split(dataset, recipe.data, seed, manifest.ids)
    frames = recipe.data.frames or pipeline.mean_frames(manifest)
    facts = workdir.Facts(
        dataset=dataset.name,
        source=data,
        records=str(records),
        classes=list(dataset.classes),
        features=[replace(row, shape=(frames, *row.shape[1:])) for row in manifest.features],
        multi_label=dataset.multi_label,
        weights=weights,
        weights_path=str(encoder.weights_path or "") if encoder else "",
        standardized=_standardized(recipe, weights),
    )
    shapes = ", ".join(f"{row.name} {row.shape} {row.dtype}" for row in facts.features)
    _note(facts, f"backbone {recipe.backbone.name}: weights {weights}")
    _note(facts, f"{len(facts.classes)} classes; {shapes}")
    for line in (*dataset.notes, *split.notes):
        _note(facts, line)
    if facts.standardized:
        _note(facts, "features are standardised on the training clips")
    return facts, split.parts()


def _build(recipe, rows, num_classes, multi_label, standardize=False):
    known = names.keyword_defaults(recipe.model)
    arguments = dict(recipe.model_args)
    if multi_label and "multi_label" not in known:
        raise ValueError(
            f"{recipe.model} gives one label a clip (softmax), and some clips have several; expected data "
            "with one label a clip, or a multi-label model"
        )
    if multi_label:
        arguments["multi_label"] = True
    if standardize:
        arguments["standardize"] = True
    return names.load("models", recipe.model).build_model(rows, num_classes, **arguments)


def _standardized(recipe, weights):
    wanted = recipe.backbone.standardize
    if recipe.model_args.get("standardize"):
        return True
    if wanted == "auto":
        return weights.startswith("random") and "standardize" in names.keyword_defaults(recipe.model)
    return wanted == "yes"


def _note(facts, line):
    facts.notes.append(line)
    print(line)


def _reopen(folder, recipe, data, seed, init_from):
    """The run in a folder, None if there is none; ValueError if it is another."""
    if not (folder / "recipe.json").is_file():
        return None
    old = workdir.load(folder)
    past = (old.recipe, _absolute(old.facts.source), old.seed, old.facts.init_from)
    present = (recipe, _absolute(data), seed, _absolute(init_from))
    sides = [
        {"model": r.model, "fidelity": r.fidelity, "--data": d, "--seed": s, "--init_from": i}
        | {k: v for k, v in recipes.flatten(r).items() if not k.startswith(_OPEN)}
        for r, d, s, i in (past, present)
    ]
    other = recipes.differences(*sides)
    if other:
        raise ValueError(f"{folder}: holds another run ({'; '.join(other)}); give another --workdir")
    return old


def _same_split(folder, old, facts, split):
    """A run goes on with the clips that it began with, or not at all."""
    if old is None:
        return
    sides = []
    for classes, parts in ((old.facts.classes, old.split()), (facts.classes, split)):
        sizes = {part: f"{len(ids)} clips, {recipes.digest(ids)}" for part, ids in parts.items()}
        sides.append({"classes": list(classes), **sizes})
    other = recipes.differences(*sides)
    if other:
        raise ValueError(
            f"{folder}: the data has changed since the run began ({'; '.join(other)}); give another --workdir"
        )


def _check_records(folder, manifest, recipe):
    flat = recipes.flatten(recipe)
    flat["backbone.size"] = ",".join(map(str, recipe.backbone.size))
    there = {key: manifest.settings[key] for key in _MADE_BY if key in manifest.settings}
    other = recipes.differences(there, {key: flat[key] for key in there})
    if other:
        raise ValueError(
            f"{folder}: these records were made with other settings than the recipe's ({'; '.join(other)}); "
            "give the ones on the left with --set, or extract again"
        )


def _heading(recipe, data):
    lines = [f"{recipe.model}, fidelity {recipe.fidelity}"]
    lines += [f"quirk kept: {text}" for text in recipes.quirks_in_force(recipe)]
    if not data:  # an override is in force where applying it once more changes nothing
        kept = [o for o in recipe.demo_overrides if recipes.override(recipe, [o]) == recipe]
        lines += [f"demo set: {o} (not the paper's setting)" for o in kept]
    return lines


def _closing(folder, metrics):
    where = shlex.quote(str(folder))
    test, validation = metrics["test"], metrics["validation"]
    print(
        f"test accuracy {test['accuracy']:.4f} on {test['clips']} clips "
        f"(validation {validation['accuracy']:.4f}, weights of epoch {validation['epoch']})\n"
        f"the run lies in {folder}\n"
        f"  evaluate: python -m tfvc.evaluate --workdir={where}\n"
        f"  predict:  python -m tfvc.predict --workdir={where} PATH...\n"
        f"  export:   python -m tfvc.export --workdir={where}\n"
        f"  watch:    tensorboard --logdir={shlex.quote(str(folder / 'logs'))}"
    )


def _absolute(path):
    return os.path.abspath(path) if path else ""


def main(argv=None):
    def run(arguments):
        recipe = cli.recipe_of(arguments)
        given = (arguments.data, arguments.seed)
        if arguments.dry_run:
            folder = arguments.workdir or default_workdir(recipe, *given, arguments.init_from)
            print("\n".join(describe(recipe, arguments.data, folder)))
            return 0
        try:
            train(
                recipe,
                data=arguments.data,
                workdir=arguments.workdir,
                seed=arguments.seed,
                strategy=arguments.strategy,
                init_from=arguments.init_from,
            )
        except KeyboardInterrupt as error:
            again = shlex.join(sys.argv[1:] if argv is None else argv)
            print(f"stopped; to go on: python -m tfvc.train {again}".rstrip(), file=sys.stderr)
            return 128 + getattr(error, "number", signal.SIGINT)

    cli.command("tfvc.train", _DOC, _FLAGS, run, argv)


if __name__ == "__main__":
    main()
