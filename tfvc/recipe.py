"""What to train and how: frozen dataclasses, checked overrides, JSON.

A recipe is data. `--set=train.epochs=5` replaces one field, checked by name and type. What only
the data can tell (classes, frames per clip, feature width) is not here but in the run's facts.
"""

import ast
import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass, field, fields

from tfvc import limits, names

FROM_DATA = "<from the data>"
STREAMS = ("frames", "audio", "text")  # of a clip


@dataclass(frozen=True)
class Feature:
    """One row: a stream of a record, an input of a model, an entry of the exported signature.

    Args:
        name: key in the record and name of the model's input.
        shape: shape of one clip's feature, for example `(7, 25088)`; the leading axis of a
            sequence may be None (any length).
        dtype: as stored, and as it enters the model: `float32`, `float16`, `uint8`, `int32`.
        quantized: uint8 values stand for floats (YouTube-8M) and are dequantised in the model.

    Example:
        >>> Feature("frames", (7, 25088)).shape
        (7, 25088)
    """

    name: str
    shape: tuple
    dtype: str = "float32"
    quantized: bool = False


@dataclass(frozen=True)
class Data:
    """Where clips come from and how they are cut and split."""

    # auto | demo | folder | ucf101 | manifest | disaster | ave | kinetics_sounds | yt8m (by pattern)
    kind: str = "auto"
    demo_form: str = "motion"  # motion | multimodal | disaster
    clips: int = 0  # demo set: number of clips, 0 = the form's own
    lists: str = ""  # ucf101: folder of the official lists; "" = ucfTrainTestlist near the clips
    list_number: int = 1  # ucf101: trainlist01, 02 or 03
    classes: str = ""  # file of class names, one a line: only clips of these are read; "" = all
    sampling: str = "fps"  # fps: `fps` frames a second | even: `frames` of them, evenly spaced over the clip
    fps: float = 1.0  # frames a second that are kept
    pool: str = "none"  # none: a row a frame | second: a row a second, the mean over its fps frames
    frames: int = 0  # T, rows of a clip; 0 = int(mean row count of the data set)
    channel_order: str = "rgb"  # rgb | bgr, as fed to preprocess_input
    interpolation: str = "area"  # area | bilinear | bicubic | nearest
    max_seconds: float = 3600.0  # a longer clip is refused
    max_pixels: int = 8294400  # a larger frame is refused (3840 x 2160)
    split: str = "group"  # random | group | official (falls back to group, said) | stratified (by labels)
    test_fraction: float = 0.3
    validation_fraction: float = 0.0  # of the training part; 0 = the test part serves (original)
    test_groups: tuple = ()  # split=group: these groups are the test part
    shard_clips: int = 64  # clips in one shard
    cache_mb: int = 1024  # MiB; records up to this size stay in memory (training and validation each)
    streams: str = (
        ""  # what is extracted of frames,audio,text; "" = what the model reads. yt8m: what is read, as
    )
    # rgb,audio or mean_rgb,mean_audio; "" = what the records hold
    num_classes: int = 3862  # yt8m
    vocabulary: str = ""  # yt8m: the set's vocabulary.csv, for the names of classes; "" = their numbers
    validation: str = ""  # yt8m: pattern of the validation part; "" = a tenth of the shards of --data
    test: str = ""  # yt8m: pattern of the test part; "" = the validation part serves


@dataclass(frozen=True)
class Backbone:
    """The network that turns one frame into features."""

    name: str = "vgg19"  # a row of tfvc/backbones/visual.py, a path, hub:..., or frames
    weights: str = "imagenet"  # imagenet | random | a path
    preprocessing: str = ""  # for a path or hub: whose preprocess_input; "" = the row's own
    size: tuple = (224, 224)  # height, width
    pooling: str = "none"  # none (flatten) | avg | max
    precision: str = "float32"  # arithmetic: float32 | bfloat16
    dtype: str = "float32"  # stored: float32 | float16
    batch_size: int = 32  # frames a network call
    standardize: str = "auto"  # auto (random weights only) | yes | no; on the training clips


@dataclass(frozen=True)
class Audio:
    """The network that turns sound into features: the stream `audio`."""

    name: str = "vggish"  # vggish: a row a second | soundnet: a row of conv7 each 1.5 s, of the whole clip
    weights: str = "audioset"  # audioset (soundnet: flickr) | random | a path (vggish: or hub:...)
    output: str = (
        "conv4_2"  # vggish: conv4_2 (12, 8, 512) | pooled (512,) | embedding (128,); soundnet: conv1
    )
    # ... conv7 (1024,)
    after_relu: bool = True  # soundnet: a layer behind its batch norm and ReLU, or before them
    rows: int = 0  # of a clip; 0 = data.frames. soundnet: of more, so many, evenly spaced
    dtype: str = "float32"  # stored: float32 | float16


@dataclass(frozen=True)
class Text:
    """How the words that go with a clip become rows: the stream `text`."""

    embedding: str = (
        "glove"  # glove: a word's vector, from a file | learned: its number; the model learns one
    )
    weights: str = "glove"  # glove (glove.6B.300d.txt where weights are looked for) | a path
    words: int = 400_000  # of the file, the first so many lines; learned: the most frequent so many; 0 = all
    rows: int = 0  # words of a clip; 0 = data.frames. Those behind are cut off
    dtype: str = "float32"  # stored vectors: float32 | float16


@dataclass(frozen=True)
class Train:
    """How the model is fitted and what is reported."""

    batch_size: int = 128  # clips a step, over all devices and workers
    accumulate: int = 1  # a device takes its part of a batch in so many parts, and adds up their gradients
    sync_batch_norm: bool = False  # batch norms look at the whole batch, not each device at its part
    epochs: int = 60
    steps: int = 0  # yt8m: to train; 0 = by epochs
    evaluate_steps: int = 0  # yt8m: from one look at the validation part to the next
    optimizer: str = "adam"  # adam | adam_tf1 | rmsprop | rmsprop_keras2 | sgd: see optimizers.OPTIMIZERS
    learning_rate: float = 1e-3
    decay: float = 1.0  # factor of the rate after every decay_examples; 1 = none
    decay_examples: int = 4_000_000
    clip_norm: float = 0.0  # L2 norm that no variable's gradient exceeds; 0 = no clipping
    loss: str = "auto"  # categorical | binary (mean over classes) | cross_entropy (sum) | auto: by the labels
    drop_visual: float = 0.0  # mafnet: share of steps in which the visual path stands still
    drop_audio: float = 0.0  # ... and the audio path
    drop_rule: str = "mended"  # published: three states, paths by variables' names | mended: whole paths
    shuffle: bool = True
    drop_remainder: bool = False
    report: str = "best"  # last | best: which epoch's weights are the result
    monitor: str = "accuracy"  # accuracy | gap | hit_at_one | loss, of the validation part
    patience: int = 0  # epochs without a better monitor before stopping; 0 = never
    min_delta: float = 0.0  # by less a monitor is no better
    best_from: int = 1  # the first epoch that may be the best
    precision: str = "float32"  # float32 | bfloat16 | float16
    jit: bool = False
    deterministic: bool = False
    checkpoint_steps: int = 0  # 0 = at the end of each epoch
    keep_checkpoints: int = 2

    @property
    def steps_per_epoch(self):
        """yt8m: an "epoch" is what lies between two looks at the validation part."""
        return min(self.evaluate_steps or self.steps, self.steps)


@dataclass(frozen=True)
class SecondStage:
    """The classifier that reads the network's vector `embedding` once it is trained."""

    name: str = (
        "none"  # none: the network's own probabilities decide | svm: label powerset, weighted linear SVM
    )
    eliminate: bool = True  # features are ranked by a random forest and dropped one after the other
    C: float = 0.9  # cost of the SVM
    weights: str = "concepts"  # concepts (inverse frequency of a label set's labels) | label_set | none
    scores: str = "decision"  # a label's score, from its sets' decision values | probability (calibrated)
    stop: str = "text"  # text | printed: which of the paper's two rules ends the elimination
    step: int = 1  # features a round
    patience: int = 1  # rounds without a better score before it stops
    cv: int = 0  # folds that score a round; 0 = the validation part does
    trees: int = 300  # of the forest
    thresholds: str = "none"  # none | tuned: a score's own threshold for each label, by the validation part


@dataclass(frozen=True)
class Predict:
    """What a prediction lists. Settable on a finished run."""

    top_k: int = 5
    window_step: int = 0  # frames between the starts of two windows of a long video; 0 = T


@dataclass(frozen=True)
class Recipe:
    """A whole run. `quirks` are (field, value, sentence): in force while the field has the value."""

    model: str
    fidelity: str
    data: Data = field(default_factory=Data)
    backbone: Backbone = field(default_factory=Backbone)
    audio: Audio = field(default_factory=Audio)
    text: Text = field(default_factory=Text)
    model_args: dict = field(default_factory=dict)
    train: Train = field(default_factory=Train)
    second_stage: SecondStage = field(default_factory=SecondStage)
    predict: Predict = field(default_factory=Predict)
    quirks: tuple = ()
    demo_overrides: tuple = ()  # "field=value" strings applied to the embedded demo set only


def get(model, fidelity="original", overrides=(), backbone="", demo=False):
    """The resolved recipe of a model.

    Args:
        model: a name in tfvc/models.
        fidelity: `original` (the authors' program) or `corrected`.
        overrides: strings `section.field=value`, applied in order.
        backbone: short for `backbone.name=...`, applied first.
        demo: apply the recipe's `demo_overrides`, under whatever the user set.

    Raises:
        ValueError: unknown model, fidelity, field or choice, or a value of another type.

    Example:
        >>> get("attention_boosted", overrides=["train.epochs=5"]).train.epochs
        5
    """
    module = names.load("recipes", model)
    if fidelity not in ("original", "corrected"):
        raise ValueError(names.suggest("fidelity", fidelity, ("original", "corrected")))
    overrides = ([f"backbone.name={backbone}"] if backbone else []) + list(overrides)
    recipe = module.get_recipe(fidelity)
    recipe = override(recipe, [*(recipe.demo_overrides if demo else ()), *overrides])
    # A recipe may settle what follows from its own arguments, but never what the user set.
    if hasattr(module, "resolve"):
        recipe = module.resolve(recipe, set(map(key_of, overrides)))
    if names.literal(model, "STREAMS"):  # said, not left to be found out: data sets look at it too
        data = dataclasses.replace(recipe.data, streams=recipe.data.streams or ",".join(read_by(recipe)))
        recipe = dataclasses.replace(recipe, data=data)
    return check(recipe)


def key_of(text):
    """The field that an override names.

    Example:
        >>> key_of("train.epochs=5")
        'train.epochs'
    """
    return text.partition("=")[0].strip()


def override(recipe, overrides):
    """Replaces fields: `override(r, ["train.epochs=5", "model_args.mode=cnn_lstm"])`."""
    for text in overrides:
        key, eq, value = text.partition("=")
        section, dot, name = key.strip().partition(".")
        if not (eq and dot and name):
            raise ValueError(f"--set={text!r}: expected section.field=value, as train.epochs=5")
        if section == "model_args":
            known = names.keyword_defaults(recipe.model)
            if name not in known:
                raise ValueError(names.suggest(f"field model_args.{name}; argument", name, known))
            new = _parse(key, value, recipe.model_args.get(name, known[name]))
            recipe = dataclasses.replace(recipe, model_args={**recipe.model_args, name: new})
            continue
        part = getattr(recipe, section, None)
        if not dataclasses.is_dataclass(part):
            raise ValueError(names.suggest("section of --set", section, (*_sections(), "model_args")))
        known = [f.name for f in fields(part)]
        if name not in known:
            raise ValueError(names.suggest(f"field of {section}", name, known))
        new = _parse(key, value, getattr(part, name))
        recipe = dataclasses.replace(recipe, **{section: dataclasses.replace(part, **{name: new})})
    return recipe


def check(recipe):
    """Returns the recipe, or raises ValueError for a choice or a range that it breaks."""
    limits.check(recipe.model, flatten(recipe))
    return recipe


def unless(given, recipe, section, **values):
    """Replaces those fields of a section that the user did not set: for a model's `resolve`.

    Args:
        given: names of the fields that the user set, as `train.epochs`.

    Example:
        >>> changed = unless({"train.epochs"}, get("attention_boosted"), "train", epochs=1, batch_size=2)
        >>> changed.train.epochs, changed.train.batch_size
        (60, 2)
    """
    values = {k: v for k, v in values.items() if f"{section}.{k}" not in given}
    return dataclasses.replace(recipe, **{section: dataclasses.replace(getattr(recipe, section), **values)})


def streams(recipe):
    """The streams that are extracted from clips, pictures first: `data.streams`, or what the model reads.

    Example:
        >>> streams(get("attention_boosted"))
        ('frames',)
    """
    given = [name.strip() for name in recipe.data.streams.split(",")]
    return tuple(name for name in STREAMS if name in given) or read_by(recipe)


def read_by(recipe):
    """The streams that the model reads, pictures first."""
    modality = flatten(recipe).get("model_args.modality", "")
    return tuple(names.literal(recipe.model, "STREAMS").get(modality, ("frames",)))


def rows_of(trees):
    """The Features of a file of ours. Only their first axis may be None.

    Raises:
        TypeError, KeyError: they were edited into something else.
    """
    rows = [Feature(**{**tree, "shape": tuple(tree["shape"])}) for tree in trees]
    for row in rows:
        sizes = row.shape[row.shape[:1] == (None,) :]
        known = isinstance(row.name, str) and row.dtype in ("float32", "float16", "uint8", "int32")
        if not (known and row.shape and all(type(n) is int and n >= 1 for n in sizes)):
            raise TypeError(f"features: {row}")
    return rows


def check_classes(names):
    """TypeError where names of classes, or words, read from a file are not different texts."""
    if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise TypeError("classes, or words: expected different names")


def flatten(recipe):
    """`{"train.epochs": 60, ...}` over every section, model arguments with their defaults."""
    parts = {s: dataclasses.asdict(getattr(recipe, s)) for s in _sections()}
    flat = {f"{section}.{name}": value for section, part in parts.items() for name, value in part.items()}
    args = {**names.keyword_defaults(recipe.model), **recipe.model_args}
    return flat | {f"model_args.{k}": v for k, v in args.items()}


def quirks_in_force(recipe):
    """Sentences of the published program's quirks that this recipe keeps."""
    flat = flatten(recipe)
    return [f"{text} ({key}={flat[key]})" for key, value, text in recipe.quirks if flat[key] == value]


def to_json(recipe):
    """A JSON-able dict that `from_json` reads back."""
    return json.loads(json.dumps(dataclasses.asdict(recipe)))


def from_json(tree):
    """The recipe of a `recipe.json`.

    Raises:
        ValueError: a section or field that this version does not know, or a value of another type.
    """
    tree = dict(tree)
    parts = {}
    for name, kind in _sections().items():
        values = {k: _tuples(v) for k, v in tree.pop(name, {}).items()}
        unknown = set(values) - {f.name for f in fields(kind)}
        if unknown:
            raise ValueError(names.suggest(f"field of {name}", min(unknown), [f.name for f in fields(kind)]))
        for key, default in dataclasses.asdict(kind()).items():
            if key in values and not _fits(values[key], default):
                raise ValueError(f"{name}.{key}={values[key]!r}: expected {type(default).__name__}")
        parts[name] = kind(**values)
    unknown = set(tree) - {f.name for f in fields(Recipe)}
    if unknown:
        raise ValueError(
            names.suggest("section of the recipe", min(unknown), [f.name for f in fields(Recipe)])
        )
    args = {k: _tuples(v) for k, v in tree.pop("model_args", {}).items()}
    return Recipe(**{k: _tuples(v) for k, v in tree.items()}, model_args=args, **parts)


def differences(old, new):
    """`["train.epochs: 60 -> 5", ...]` between two flat dicts; [] where they agree."""
    keys = [*old, *(k for k in new if k not in old)]
    pairs = [(k, old.get(k, "(absent)"), new.get(k, "(absent)")) for k in keys]
    return [f"{k}: {a} -> {b}" for k, a, b in pairs if a != b]


def digest(tree):
    """Ten hex digits that name a JSON-able tree: the same settings, the same folder."""
    text = json.dumps(tree, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _sections():
    """Name -> dataclass of the sections of a recipe."""
    return {f.name: f.default_factory for f in fields(Recipe) if dataclasses.is_dataclass(f.default_factory)}


def _fits(value, default):
    if isinstance(default, float):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is type(default)


def _tuples(value):
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def _parse(key, text, old):
    """Text to the type of the value it replaces."""
    text = text.strip()
    if isinstance(old, bool):
        if text.lower() not in ("true", "false"):
            raise ValueError(f"--set={key}={text!r}: expected true or false")
        return text.lower() == "true"
    if isinstance(old, str):
        return text
    if isinstance(old, tuple):
        items = [t.strip() for t in text.strip("()").split(",") if t.strip()]
        numbers = old and all(isinstance(item, int) for item in old)
        return tuple(int(t) if t.isdigit() else t for t in items) if numbers else tuple(items)
    if isinstance(old, (int, float)):
        try:
            value = type(old)(text)
            if not math.isfinite(value):
                raise ValueError(text)
            return value
        except ValueError:
            raise ValueError(f"--set={key}={text!r}: expected {type(old).__name__}, as {old}") from None
    try:  # no default to go by: a literal, else a string
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
