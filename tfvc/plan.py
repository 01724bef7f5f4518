"""A run before it is one: paths made absolute, names checked, every field shown. Imports nothing heavy."""

import os
from dataclasses import replace

from tfvc import names, workdir
from tfvc import recipe as recipes


def settled(recipe):
    """The recipe with its paths made absolute, so that the run can be used from any folder.

    Raises:
        ValueError: `backbone.standardize` is gone round, or is no part of the model.
    """
    from tfvc.backbones import weights  # imports nothing heavy

    if "standardize" in recipe.model_args:
        raise ValueError(
            f"model_args.standardize={recipe.model_args['standardize']}: settled by backbone.standardize; "
            "give --set=backbone.standardize=yes (or no, or auto) instead"
        )
    if recipe.backbone.standardize == "yes" and "standardize" not in names.keyword_defaults(recipe.model):
        raise ValueError(f"backbone.standardize=yes: {recipe.model} has no such layer; expected auto or no")
    if recipe.data.test_groups and recipe.data.split == "random":
        raise ValueError("data.test_groups is for data.split=group; the split is random")
    hub = weights.HUB if recipe.backbone.name.startswith(weights.HUB) else ""
    rows = () if hub else (*weights.FILES, weights.FRAMES)
    name = hub + _found(recipe.backbone.name.removeprefix(hub), rows)
    given = _found(recipe.backbone.weights, weights.WORDS)
    return replace(
        recipe,
        data=replace(recipe.data, lists=_found(recipe.data.lists)),
        backbone=replace(recipe.backbone, name=name, weights=given),
    )


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
    datasets.kind_of(recipe.data, data)
    if init_from:
        workdir.load(init_from)


def describe(recipe, data, folder):
    """Lines of `--dry_run`: every field, and what only the data can tell marked so."""
    unknown = recipes.FROM_DATA
    open_fields = {
        "data.kind": recipe.data.kind == "auto",
        "data.frames": not recipe.data.frames,
        "data.split": recipe.data.split == "official",  # group, where there are no lists
        "backbone.standardize": recipe.backbone.standardize == "auto",
        "train.batch_size": True,  # shrinks to the training clips
    }
    facts = {
        "classes": unknown,
        "frames per clip (T)": recipe.data.frames or unknown,
        "feature width (D)": unknown,
        "clips in training, validation, test": unknown,
        "steps per epoch": unknown,
    }
    rows = {**recipes.flatten(recipe), "workdir": folder, "--data": data or "the demo set", **facts}
    rows.pop("model_args.standardize", None)  # backbone.standardize is the switch
    asked = {key: f"{rows[key]}, settled {unknown}" for key, is_open in open_fields.items() if is_open}
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
    tree = {"recipe": recipes.to_json(recipe), "data": absolute(data), "seed": seed}
    tree |= {"init_from": absolute(init_from)} if init_from else {}
    return f"runs/{recipe.model}-{recipes.digest(tree)}"


def absolute(path):
    """The same place from any folder; "" stays "", the demo set."""
    return os.path.abspath(path) if path else ""


def _found(path, words=()):
    """An existing path, absolute; anything else, and the words that win over a path, as it is."""
    return os.path.abspath(path) if path not in words and os.path.exists(path) else path
