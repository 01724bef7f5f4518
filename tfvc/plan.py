"""A run before it is one: paths made absolute, names checked, every field shown. Imports nothing heavy."""

import glob
import os
from dataclasses import fields, replace

from tfvc import names, workdir
from tfvc import recipe as recipes

_BY_PATTERN = ("data.num_classes", "data.vocabulary", "data.validation", "data.test")
_BY_PATTERN += ("train.steps", "train.evaluate_steps")
_BY_CLIP = ("data.demo_form", "data.clips", "data.lists", "data.list_number", "data.split", "data.cache_mb")
_BY_CLIP += ("data.test_fraction", "data.validation_fraction", "data.test_groups", "data.shard_clips")
_BY_CLIP += ("train.epochs", "train.drop_remainder", "backbone.standardize")
_BY_CLIP += ("backbone.name", "backbone.preprocessing", "backbone.size", "backbone.pooling", "backbone.dtype")
_BY_CLIP += ("backbone.precision", "data.channel_order", "data.interpolation", "data.pool", "data.classes")
_BY_CLIP += ("data.sampling",)
_BY_CLIP += tuple(f"audio.{f.name}" for f in fields(recipes.Audio))
_BY_CLIP += tuple(f"text.{f.name}" for f in fields(recipes.Text))
_STAGE = tuple(f"second_stage.{f.name}" for f in fields(recipes.SecondStage))
_PATHS = ("train.drop_visual", "train.drop_audio", "train.drop_rule")
_OF_STREAM = {  # what is idle where a stream of clips is not extracted
    "frames": ("backbone.name", "backbone.weights", "backbone.preprocessing", "backbone.size")
    + ("backbone.pooling", "backbone.precision", "backbone.dtype", "backbone.batch_size", "data.fps")
    + ("data.pool", "data.channel_order", "data.interpolation", "data.max_pixels"),
    "audio": tuple(f"audio.{f.name}" for f in fields(recipes.Audio)),
    "text": tuple(f"text.{f.name}" for f in fields(recipes.Text)),
}
_SETTLED = {  # arguments of models that are not the user's to give
    "standardize": "settled by backbone.standardize; give --set=backbone.standardize=yes (or no, or auto)",
    "multi_label": "settled by the data: whether a clip has several labels; leave it out",
    "vocabulary": "settled by the data: its words; leave it out",
}


def settled(recipe):
    """The recipe with its paths made absolute, so that the run can be used from any folder.

    Raises:
        ValueError: `backbone.standardize` is gone round, or is no part of the model.
    """
    from tfvc.backbones import weights  # imports nothing heavy

    for name in sorted(_SETTLED.keys() & recipe.model_args):
        raise ValueError(f"model_args.{name}={recipe.model_args[name]}: {_SETTLED[name]}")
    if recipe.backbone.standardize == "yes" and "standardize" not in names.keyword_defaults(recipe.model):
        raise ValueError(f"backbone.standardize=yes: {recipe.model} has no such layer; expected auto or no")
    recipe = _settled_steps(recipe)
    _settled_stage(recipe)
    if recipe.data.kind != "yt8m":
        _check_streams(recipe)
    if recipe.data.test_groups and recipe.data.split in ("random", "stratified"):
        raise ValueError(f"data.test_groups is for data.split=group; the split is {recipe.data.split}")
    hub = weights.HUB if recipe.backbone.name.startswith(weights.HUB) else ""
    rows = () if hub else (*weights.FILES, weights.FRAMES)
    name = hub + _found(recipe.backbone.name.removeprefix(hub), rows)
    given = _found(recipe.backbone.weights, weights.WORDS)
    return replace(
        recipe,
        data=replace(
            recipe.data,
            lists=_found(recipe.data.lists),
            classes=absolute(recipe.data.classes),
            vocabulary=absolute(recipe.data.vocabulary),
            validation=source_of(recipe, recipe.data.validation),
            test=source_of(recipe, recipe.data.test),
        ),
        backbone=replace(recipe.backbone, name=name, weights=given),
        audio=replace(
            recipe.audio, weights=_found(recipe.audio.weights, weights.SOUND_WORDS[recipe.audio.name])
        ),
        text=replace(recipe.text, weights=_found(recipe.text.weights, weights.TEXT_WORDS)),
    )


def _check_streams(recipe):
    """What is extracted must serve the model, and nothing may be set that then lies idle."""
    known, given = recipes.STREAMS, [s.strip() for s in recipe.data.streams.split(",") if s.strip()]
    wrong = next((name for name in given if name not in known), None)
    if wrong is not None:
        raise ValueError(names.suggest("stream in data.streams", wrong, known))
    there, needed = recipes.streams(recipe), recipes.read_by(recipe)
    missing = [name for name in needed if name not in there]
    if missing:
        raise ValueError(
            f"data.streams={recipe.data.streams}: this {recipe.model} reads {','.join(needed)}; expected "
            "those, and any others, or nothing"
        )
    flat = recipes.flatten(recipe)
    usual = recipes.flatten(recipes.get(recipe.model, recipe.fidelity))
    of_demo = recipes.flatten(recipes.get(recipe.model, recipe.fidelity, demo=True))
    for stream in known:
        for key in () if stream in there else _OF_STREAM[stream]:
            if flat[key] not in (usual[key], of_demo[key]):
                raise ValueError(
                    f"{key}={flat[key]}: only for the stream {stream}, which is not extracted (data.streams="
                    f"{','.join(there)}); leave it out"
                )
    learned = recipe.text.embedding == "learned"
    for key in ("text.weights", "text.dtype") if learned else ():
        if flat[key] != usual[key]:
            raise ValueError(f"{key}={flat[key]}: text.embedding=learned reads no vectors; leave it out")
    if recipe.audio.name == "vggish" and not recipe.audio.after_relu:
        raise ValueError("audio.after_relu=False: only for audio.name=soundnet; leave it out")
    if not names.literal(recipe.model, "PATHS"):
        odd = next((key for key in _PATHS if flat[key] != usual[key]), None)
        if odd:
            raise ValueError(f"{odd}={flat[odd]}: {recipe.model} has no paths to drop; leave it out")
    drops = recipe.train.drop_visual + recipe.train.drop_audio
    if drops and len(needed) == 1:
        raise ValueError(
            f"train.drop_visual + train.drop_audio = {drops:g}: this {recipe.model} reads {needed[0]} alone "
            "and has no path to spare; leave it out"
        )
    if drops > 1:
        raise ValueError(f"train.drop_visual + train.drop_audio = {drops:g}: expected at most 1 together")
    if recipe.train.report == "best" and recipe.train.best_from > recipe.train.epochs:
        raise ValueError(
            f"train.best_from={recipe.train.best_from}: no such epoch of train.epochs={recipe.train.epochs}; "
            "expected at most that"
        )
    fps, pool = recipe.data.fps, recipe.data.pool
    if "frames" in there and pool == "second" and fps != round(fps):
        raise ValueError(
            f"data.fps={fps:g}: data.pool=second takes whole frames a second; expected 1, 2, ..."
        )
    if recipe.data.sampling == "even":
        _check_even(recipe)
    elif {"frames", "audio"} <= set(there) and recipe.audio.name == "vggish" and pool == "none" and fps != 1:
        raise ValueError(
            f"data.fps={fps:g}: sound has one row a second, so frames must have too; expected data.fps=1, or "
            "data.pool=second"
        )


def _check_even(recipe):
    """What pictures spaced evenly over a clip need, and what does not go with them."""
    if not recipe.data.frames:
        raise ValueError("data.sampling=even: needs to know how many; expected data.frames above 0")
    own = recipes.get(recipe.model, recipe.fidelity).data.fps
    if recipe.data.fps != own:
        raise ValueError(f"data.fps={recipe.data.fps:g}: data.sampling=even takes data.frames; leave it out")
    if recipe.data.pool != "none":
        raise ValueError("data.pool=second: not with data.sampling=even, whose pictures lie further apart")
    if "audio" in recipes.streams(recipe) and recipe.audio.name == "vggish":
        raise ValueError(
            "data.sampling=even: vggish has a row a second, and pictures would not; expected data.sampling="
            "fps, or audio.name=soundnet"
        )


def _settled_stage(recipe):
    """Checks the second stage; what belongs to none must not be set."""
    flat, usual = recipes.flatten(recipe), recipes.flatten(recipes.get(recipe.model, recipe.fidelity))
    name, by_pattern = recipe.second_stage.name, recipe.data.kind == "yt8m"
    if by_pattern and (name != "none" or recipe.second_stage.thresholds != "none"):
        raise ValueError(
            f"second_stage.name={name}: only for clips, not for records by pattern; leave it out"
        )
    if name == "none":
        idle = [key for key in _STAGE if key not in ("second_stage.name", "second_stage.thresholds")]
    elif not recipe.second_stage.eliminate:
        idle = ["second_stage.step", "second_stage.patience", "second_stage.stop", "second_stage.cv"]
    else:
        idle = []
    odd = next((key for key in idle if flat[key] != usual[key]), None)
    if odd:
        why = "there is no second stage" if name == "none" else "no feature is eliminated"
        instead = ", or give second_stage.name=svm" if name == "none" else ""
        raise ValueError(f"{odd}={flat[odd]}: {why} (second_stage.name={name}); leave it out{instead}")
    if recipe.second_stage.cv == 1:
        raise ValueError("second_stage.cv=1: one fold leaves nothing to score; expected 2 or more, or 0")
    if recipe.second_stage.stop == "printed" and recipe.second_stage.patience > 1:
        raise ValueError("second_stage.patience: the printed rule stops at the first worse score; expected 1")


def _settled_steps(recipe):
    """Checks what belongs to records by pattern and what does not; counts the "epochs" of their steps."""
    own, by_pattern = recipes.get(recipe.model, recipe.fidelity), bool(names.literal(recipe.model, "SIDES"))
    if (recipe.data.kind == "yt8m") != by_pattern:
        wanted = own.data.kind if by_pattern else "another kind"
        raise ValueError(f"data.kind={recipe.data.kind}: not for {recipe.model}; expected {wanted}")
    train = recipe.train
    several = by_pattern or "multi_label" in names.keyword_defaults(recipe.model)
    known = {"accuracy": not by_pattern, "loss": True}
    if not known.get(train.monitor, several):
        measures = "gap, hit_at_one, micro_f1 or loss" if by_pattern else "accuracy or loss"
        raise ValueError(
            f"train.monitor={train.monitor}: {recipe.model} has no such measure; expected {measures}"
        )
    flat, usual = recipes.flatten(recipe), recipes.flatten(own)
    if not by_pattern:
        odd = [key for key in _BY_PATTERN if flat[key] != usual[key]]
        if odd:
            raise ValueError(f"{odd[0]}={flat[odd[0]]}: only for records by pattern (mfb); leave it out")
        return recipe
    if not train.steps:
        raise ValueError("train.steps=0: records by pattern are trained on by steps; expected at least 1")
    every = train.steps_per_epoch
    if train.steps % every:
        raise ValueError(
            f"train.steps={train.steps}: expected a multiple of train.evaluate_steps={every}, as "
            f"{train.steps // every * every} or {-(-train.steps // every) * every}"
        )
    if train.loss == "categorical":
        raise ValueError("train.loss=categorical: for one label a clip; expected cross_entropy or binary")
    epochs = train.steps // every
    usual["train.epochs"] = epochs if train.epochs == epochs else usual["train.epochs"]
    odd = [key for key in _BY_CLIP if flat[key] != usual[key]]
    if odd:
        remedy = "give train.steps and train.evaluate_steps" if odd[0] == "train.epochs" else "leave it out"
        raise ValueError(f"{odd[0]}={flat[odd[0]]}: not for records by pattern; {remedy}")
    return replace(recipe, train=replace(train, epochs=epochs, evaluate_steps=every))


def check(recipe, data="", strategy="default", init_from=""):
    """What `--dry_run` refuses: names of a backbone, data, a strategy or a run that are none.

    Raises:
        ValueError, FileNotFoundError: as `train` does later.
    """
    from tfvc import strategy as strategies
    from tfvc.backbones import weights
    from tfvc.data import datasets

    strategies.check(strategy)
    weights.check_name(recipe.backbone.name)
    weights.check_given(recipe.backbone.weights)
    if recipe.data.kind != "yt8m":
        there = recipes.streams(recipe)
        if "audio" in there:
            weights.check_sound(recipe.audio.weights, recipe.audio.name)
        if "text" in there and recipe.text.weights not in weights.TEXT_WORDS:
            weights.text_file(recipe.text.weights)
    if recipe.data.kind != "yt8m":
        datasets.kind_of(recipe.data, data)
    for pattern in source_of(recipe, data).split(",") if recipe.data.kind == "yt8m" and data else ():
        found = [pattern] if os.path.lexists(pattern) else glob.glob(pattern)
        if found and all(map(os.path.isdir, found)):
            raise ValueError(f"{pattern}: is a folder; expected files, as '{pattern}/*.tfrecord'")
        if "://" not in pattern and not found:
            raise FileNotFoundError(
                f"{pattern}: no such file; expected the path or pattern of TFRecord files"
            )
    if init_from:
        workdir.load(init_from)


def describe(recipe, data, folder):
    """Lines of `--dry_run`: every field, and what only the data can tell marked so."""
    unknown = recipes.FROM_DATA
    by_pattern = recipe.data.kind == "yt8m"
    open_fields = {
        "data.kind": recipe.data.kind == "auto",
        "data.frames": not recipe.data.frames,
        "data.split": recipe.data.split == "official",  # group, where there are no lists
        "data.streams": by_pattern and not recipe.data.streams,
        "backbone.standardize": recipe.backbone.standardize == "auto" and not by_pattern,
        "train.batch_size": not by_pattern,  # shrinks to the training clips
    }
    facts = {
        "classes": recipe.data.num_classes if by_pattern and data else unknown,
        "frames per clip (T)": recipe.data.frames or unknown,
        "feature width (D)": unknown,
        "clips in training, validation, test": unknown,
        "steps per epoch": recipe.train.steps_per_epoch if by_pattern else unknown,
    }
    idle = _BY_CLIP + _STAGE if by_pattern else _BY_PATTERN
    if not by_pattern:
        there = recipes.streams(recipe)
        idle += sum((_OF_STREAM[name] for name in recipes.STREAMS if name not in there), ())
        idle += () if names.literal(recipe.model, "PATHS") else _PATHS
        if recipe.second_stage.name == "none":
            idle += tuple(
                key for key in _STAGE if key not in ("second_stage.name", "second_stage.thresholds")
            )
        idle += ("data.fps", "data.pool") if recipe.data.sampling == "even" else ()
    fields = {key: value for key, value in recipes.flatten(recipe).items() if key not in idle}
    rows = {**fields, "workdir": folder, "--data": data or "the demo set", **facts}
    rows = {key: value for key, value in rows.items() if key.removeprefix("model_args.") not in _SETTLED}
    asked = {
        key: f"{rows[key]}, settled {unknown}"
        for key, is_open in open_fields.items()
        if is_open and key in rows
    }
    return [*heading(recipe, data), *(f"{key} = {value}" for key, value in (rows | asked).items())]


def heading(recipe, data):
    """Lines a run begins with: what it is, quirks kept, the demo set's settings."""
    lines = [f"{recipe.model}, fidelity {recipe.fidelity}"]
    lines += [f"quirk kept: {text}" for text in recipes.quirks_in_force(recipe)]
    if not data:  # an override is in force where applying it once more changes nothing
        kept = [o for o in recipe.demo_overrides if recipes.override(recipe, [o]) == recipe]
        lines += [f"demo set: {o} (not the paper's setting)" for o in kept]
    return lines


def default_workdir(recipe, data, seed, init_from=""):
    """`runs/<model>-<digest>`: the same command, the same folder.

    Example:
        >>> from tfvc import recipe
        >>> default_workdir(recipe.get("attention_boosted"), "", 0).startswith("runs/attention_boosted-")
        True
    """
    tree = {"recipe": recipes.to_json(recipe), "data": source_of(recipe, data), "seed": seed}
    tree |= {"init_from": absolute(init_from)} if init_from else {}
    return f"runs/{recipe.model}-{recipes.digest(tree)}"


def source_of(recipe, data):
    """`--data` such that it means the same from any folder; "" stays "", the demo set.

    Of patterns, addresses stay as they are.

    Example:
        >>> from tfvc import recipe
        >>> source_of(recipe.get("mfb"), "gs://a/b*,/c*")
        'gs://a/b*,/c*'
    """
    if recipe.data.kind != "yt8m":
        return absolute(data)
    return ",".join(map(absolute, filter(None, map(str.strip, data.split(",")))))


def absolute(path):
    """The same place from any folder; "" stays "", and an address as it is."""
    return os.path.abspath(path) if path and "://" not in path else path


def _found(path, words=()):
    """An existing path, absolute; anything else, and the words that win over a path, as it is."""
    return os.path.abspath(path) if path not in words and os.path.exists(path) else path
