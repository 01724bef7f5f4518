"""A run is a folder: `recipe.json`, `split.json`, `model.keras`, `metrics.json`, checkpoints, logs.

evaluate, predict and export need nothing but this folder.
"""

import contextlib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import tfvc
from tfvc import files
from tfvc.recipe import Recipe, check, check_classes, from_json, rows_of, to_json


@dataclass
class Facts:
    """What only the data could tell. Written beside the recipe before the first step."""

    dataset: str  # name, for messages
    source: str  # --data, absolute; "" = the embedded demo set
    records: str  # folder of the extracted shards, absolute
    classes: list  # class names, in label order
    features: list  # rows (Feature), with the final shapes: T frames
    multi_label: bool = False
    weights: str = ""  # backbone weights really used: "random (seed 0)", "imagenet", a file and its checksum
    audio_weights: str = ""  # of the network for sound; "" where the model hears none
    text_weights: str = ""  # where the words' rows come from; "" where the model reads none
    vocabulary: list = field(default_factory=list)  # words that the numbers of the stream text stand for
    standardized: bool = False
    listing: str = ""  # `datasets.Dataset.digest()`: shows whether clips or labels have changed since
    init_from: str = ""  # the run whose weights were the start
    kind: str = "clips"  # clips: a folder of our own records; yt8m: `records` is a pattern
    notes: list = field(default_factory=list)  # lines the run printed: shrunken batch, leakage, fallbacks

    @property
    def made_with(self):
        """Stream -> sentence of the weights behind it; "" where the model does not read it."""
        return {"frames": self.weights, "audio": self.audio_weights, "text": self.text_weights}

    @property
    def score(self):
        """The measure that a run is known by."""
        if self.kind == "yt8m":
            return "gap"
        return "micro_f1" if self.multi_label else "accuracy"

    def say(self, line):
        """Prints a line, and keeps it in `notes`."""
        self.notes.append(line)
        print(line)


@dataclass
class Run:
    """A run read from its folder."""

    path: Path
    recipe: Recipe
    facts: Facts
    seed: int

    def model(self):
        """The trained model with all its outputs. Raises FileNotFoundError where the run has not finished."""
        import keras

        from tfvc import layers  # noqa: F401  registers the layers

        path = self.path / "model.keras"
        if not path.is_file():
            raise FileNotFoundError(
                f"{path}: {files.absent(path)}: the run has not finished; start the same train command again"
            )
        files.check_archive(path)
        try:
            model = keras.saving.load_model(path, compile=False, safe_mode=True)
            rows = {row.name: row.shape for row in self.facts.features}
            inputs = dict(model.input).items()
            shapes = {name: tuple(tensor.shape[1:]) for name, tensor in inputs if not _is_length(name, rows)}
            classes = probabilities_of(model).shape[-1]
        except files.UNREADABLE as error:
            why = files.printable(files.first_line(error))
            raise ValueError(
                f"{path}: cannot be loaded ({why}); put back the file that training wrote"
            ) from None
        if classes != len(self.facts.classes) or shapes != rows:
            raise ValueError(
                f"{path}: {classes} classes of {shapes}, but recipe.json says "
                f"{len(self.facts.classes)} of {rows}; put back the files that training wrote"
            )
        return model

    def metrics(self):
        """`metrics.json`, {} where there is none; ValueError where it is not what training wrote."""
        path = self.path / "metrics.json"
        if not path.is_file():
            return {}
        remedy = "remove it, and start the same train command again"
        tree = files.read_json(path, remedy)
        known = {"epochs": int, "stopped_early": bool, "test": dict, "validation": dict}
        trained = isinstance(tree, dict) and ("epochs" not in tree or _typed(tree, known))
        score = self.facts.score
        numbers = {score: float, "clips": int}, {score: float, "epoch": int}
        if trained and "epochs" in tree:
            trained = all(map(_typed, (tree["test"], tree["validation"]), numbers))
        if not trained:
            raise ValueError(f"{path}: not the metrics of a run; {remedy}")
        return tree

    def split(self):
        """`{"train": [ids], "validation": [ids], "test": [ids]}`."""
        path = self.path / "split.json"
        tree = files.read_json(path, "train the run again")
        whole = isinstance(tree, dict) and {"train", "validation", "test"} <= set(tree)
        parts = tree.values() if whole else [None]
        if not all(isinstance(ids, list) and all(isinstance(i, str) for i in ids) for ids in parts):
            raise ValueError(f"{path}: not the split of a run; train the run again")
        return tree


@contextlib.contextmanager
def results(path):
    """Within it this process alone changes what a run was measured to be: `metrics.json`, and what
    evaluate writes. Training removes and replaces `metrics.json` in it, evaluate adds to it."""
    with files.locked(Path(path) / "metrics.json", "writing", wait=True):
        files.sweep(path, "metrics.json")
        yield


def probabilities_of(model):
    """KerasTensor (B, C) that loss and measures are of: a model's only output, or its `probabilities`.

    Raises:
        ValueError: several outputs, none of them of that name.
    """
    if not isinstance(model.output, (dict, list, tuple)):
        return model.output
    if not isinstance(model.output, dict) or "probabilities" not in model.output:
        raise ValueError(f"model {model.name}: several outputs; expected a dict with `probabilities`")
    return model.output["probabilities"]


def heads_of(model):
    """KerasTensor (B, M, C) of the heads of networks that are trained apart; None where there are none."""
    return model.output.get("heads") if isinstance(model.output, dict) else None


def classifier_of(model):
    """The model itself, or where it has several outputs, its part that gives the probabilities alone."""
    import keras

    if probabilities_of(model) is model.output:
        return model
    part = keras.Model(model.input, probabilities_of(model), name=model.name)
    part.dtype_policy = model.dtype_policy  # by which `compile` scales the loss of half precision
    return part


def outputs_of(model, inputs):
    """What a model gives, by name."""
    outputs = model(inputs, training=False)
    return dict(outputs) if isinstance(outputs, dict) else {"probabilities": outputs}


def save(path, recipe, facts, seed, split):
    """Writes `recipe.json` and `split.json`."""
    rows = [asdict(f) for f in facts.features]
    tree = {
        "tfvc": tfvc.__version__,
        "seed": seed,
        "recipe": to_json(recipe),
        "facts": {**asdict(facts), "features": rows},
    }
    files.write_json(Path(path) / "split.json", split)
    files.write_json(Path(path) / "recipe.json", tree)


def load(path):
    """Reads a run.

    Raises:
        FileNotFoundError: no `recipe.json` there.
        ValueError: it is not one of ours.
    """
    if not path:
        raise ValueError("--workdir: expected the folder of a run, as --workdir=runs/attention_boosted-...")
    path = Path(path)
    file = path / "recipe.json"
    tree = files.read_json(file, "expected the --workdir of a training run")
    try:
        facts = dict(tree["facts"])
        facts["features"] = rows_of(facts["features"])
        return Run(path, check(from_json(tree["recipe"])), _checked(Facts(**facts)), int(tree["seed"]))
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
        why = files.printable(str(error))
        raise ValueError(f"{file}: not the recipe of a run of this version ({why})") from None


def _is_length(name, rows):
    """Whether an input of a model says how long another one is."""
    return name.endswith("_length") and name.removesuffix("_length") in rows


def _typed(tree, kinds):
    return all(isinstance(tree.get(key), kind) for key, kind in kinds.items())


def _checked(facts):
    """The facts; TypeError where they were edited into something else."""
    for f in fields(Facts):
        if not isinstance(getattr(facts, f.name), f.type):
            raise TypeError(f"{f.name}: expected {f.type.__name__}")
    check_classes(facts.classes)
    check_classes(facts.vocabulary)
    if not facts.classes or not facts.features or any(None in row.shape for row in facts.features):
        raise TypeError(f"{len(facts.classes)} classes, features {facts.features}")
    return facts
