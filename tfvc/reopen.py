"""A run that is there already: whether it may go on, with what, and what of it is broken."""

from pathlib import Path

from tfvc import files, second_stage, workdir
from tfvc import recipe as recipes
from tfvc.plan import absolute, source_of

_OPEN = (
    "train.epochs",
    "train.steps",
    "second_stage.",
    "predict.",
)  # what may differ when a run is started again


def run_in(folder, recipe, data, seed, init_from):
    """The run in a folder, None if there is none; ValueError if it is another."""
    if not (folder / "recipe.json").is_file():
        if any((folder / "checkpoints").glob("step-*")):
            raise ValueError(
                f"{folder}: has checkpoints and no recipe.json, so whose they are is not known; put it back, "
                "or give another --workdir"
            )
        return None
    old = workdir.load(folder)
    past = (old.recipe, old.facts.source, old.seed, old.facts.init_from)
    present = (recipe, source_of(recipe, data), seed, absolute(init_from))
    sides = [
        {"model": r.model, "fidelity": r.fidelity, "--data": d, "--seed": s, "--init_from": i}
        | {k: v for k, v in recipes.flatten(r).items() if not k.startswith(_OPEN)}
        for r, d, s, i in (past, present)
    ]
    other = recipes.differences(*sides)
    if other:
        raise ValueError(f"{folder}: holds another run ({'; '.join(other)}); give another --workdir")
    return old


def check_data(folder, old, recipe, data):
    """Before hours of extraction, and for a complete run too; data that are gone change nothing."""
    if not (old and data):
        return
    if recipe.data.kind == "yt8m":
        from tfvc.yt8m import facts

        try:
            now = facts.listing(recipe, data)
        except FileNotFoundError:  # where they are needed, that is told there
            return
    elif Path(data).exists():
        from tfvc.data import datasets

        now = datasets.load(recipe.data, data).digest("text" in recipes.read_by(recipe))
    else:
        return
    if now != old.facts.listing:
        raise ValueError(
            f"{folder}: clips, labels or texts of {data} have changed since the run began; give another "
            "--workdir"
        )


def broken(run):
    """What of a complete run can no longer be read, in words; "" where nothing is missing."""
    path = run.path / "model.keras"
    try:
        if not path.is_file():
            return f"{path}: is gone"
        second_stage.load(run)
        second_stage.thresholds(run)
        files.check_archive(path)
        run.split()
    except files.UNREADABLE as error:
        return files.first_line(error)
    return ""


def check_split(folder, old, facts, split):
    """A run goes on with the clips that it began with, or not at all."""
    if old is None:
        return
    try:
        past = old.split()
    except (ValueError, FileNotFoundError) as error:
        print(f"{files.first_line(error)}; taken from the data again")
        past = split
    if facts.kind == "yt8m":  # the test part is measured when all is done, and may be another by then
        past, split = ({k: v for k, v in parts.items() if k != "test"} for parts in (past, split))
    sides = []
    for classes, parts in ((old.facts.classes, past), (facts.classes, split)):
        sizes = {part: f"{len(ids)} clips, {recipes.digest(ids)}" for part, ids in parts.items()}
        sides.append({"classes": list(classes), **sizes})
    other = recipes.differences(*sides)
    if other:
        raise ValueError(
            f"{folder}: the data has changed since the run began ({'; '.join(other)}); give another --workdir"
        )
