"""What patterns of records tell of a run: files of its parts, streams, classes."""

import contextlib
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

from tfvc import names, plan, workdir
from tfvc.recipe import Feature, digest, flatten

FRAMES = 300  # T of the set
SIZES = {"rgb": 1024, "audio": 128}  # where a record does not tell
_USUAL = {name: Feature(name, (None, size), "uint8", True) for name, size in SIZES.items()}
_USUAL |= {f"mean_{name}": Feature(f"mean_{name}", (size,)) for name, size in SIZES.items()}
_FILES, _PEEK = 4, 16  # files, and records of each, looked at for their streams
_HELD_OUT = 10  # of so many shards of --data, one validates where no pattern is given


def gather(recipe, data):
    """Facts and parts of a run.

    Args:
        recipe: a resolved `tfvc.recipe.Recipe` of data.kind yt8m.
        data: pattern of the training shards; "" = made-up ones (`tfvc.data.demo_records`).

    Returns:
        `(workdir.Facts, {"train": files, "validation": files, "test": files})`.

    Raises:
        ValueError, FileNotFoundError: patterns that name nothing, or one file twice; records without the
            streams that the model reads; a vocabulary that does not fit.
    """
    patterns, section = sources_of(recipe.data, data)
    parts, notes = _parts(section, patterns)
    rows = _rows(recipe, parts["train"])
    facts = workdir.Facts(
        kind="yt8m",
        dataset="yt8m",
        source=plan.source_of(recipe, data),
        records=plan.source_of(recipe, patterns),
        classes=classes_of(section),
        features=rows,
        listing=_digest(parts),
        multi_label=True,
    )
    shapes = ", ".join(f"{row.name} {row.shape} {row.dtype}" for row in rows)
    facts.say(f"records: {len(facts.classes)} classes; {shapes}")
    facts.say(", ".join(f"{part} {len(files)} files" for part, files in parts.items()))
    for note in notes:
        facts.say(note)
    return facts, parts


def listing(recipe, data):
    """Digest of the names and sizes of the files that train and choose, in whatever folder they lie."""
    patterns, section = sources_of(recipe.data, data)
    return _digest(_parts(section, patterns)[0])


def sources_of(section, data):
    """Pattern of the training shards, and the `recipe.Data` of the run; without `data` the demo set's."""
    if data:
        return data, section
    from tfvc.data import demo_records

    patterns, classes = demo_records.ensure()
    parts = {part: patterns[part] for part in ("validation", "test")}
    return patterns["train"], replace(section, num_classes=classes, vocabulary="", **parts)


def classes_of(data):
    """Names of the classes, no two alike: those of `data.vocabulary`, or else their numbers.

    Args:
        data: `tfvc.recipe.Data`.
    """
    from tfvc.data import vocabulary

    if not data.vocabulary:
        return [str(number) for number in range(data.num_classes)]
    found = vocabulary.class_names(data.vocabulary, data.num_classes)
    if len(set(found)) == len(found):
        return found
    count = Counter(found)
    named = [name if count[name] == 1 else f"{name} ({number})" for number, name in enumerate(found)]
    # A name may be what another was made into: then all have their numbers.
    return named if len(set(named)) == len(named) else [f"{name} ({i})" for i, name in enumerate(found)]


def _digest(parts):
    # Without the test part: it is measured when all is done, and may be mended until then.
    kept = {part: parts[part] for part in ("train", "validation")}
    return digest({part: [[os.path.basename(f), _size(f)] for f in files] for part, files in kept.items()})


def _parts(data, patterns):
    from tfvc.data.sources import files

    train, notes = files(patterns), []
    if data.validation:
        validation = files(data.validation)
    elif len(train) > 1:
        validation = train[::_HELD_OUT]
        train = [file for file in train if file not in validation]
        notes.append(
            f"data.validation is not given: {len(validation)} of the {len(train) + len(validation)} files "
            "of --data validate, and are not trained on"
        )
    else:
        raise ValueError(
            f"{patterns}: one file, none is left to validate; expected --set=data.validation=PATTERN as well"
        )
    test = files(data.test) if data.test else validation
    if not data.test:
        notes.append("data.test is not given: the validation part serves, and chooses the step reported")
    for name, part in (("data.validation", validation), ("data.test", test)):
        both = sorted(set(train) & set(part))
        if both:
            raise ValueError(f"{both[0]}: named by --data and by {name}; expected different files")
    return {"train": train, "validation": validation, "test": test}, notes


def _rows(recipe, train):
    """The streams that the model reads, pictures before sound."""
    wanted = names.literal(recipe.model, "SIDES")[flatten(recipe)["model_args.fusion"]]
    held = _held(train)
    if recipe.data.streams:
        given = [name.strip() for name in recipe.data.streams.split(",") if name.strip()]
        held = {name: row for name, row in _USUAL.items() if name in given} | held  # absent, so masked
        strange = [name for name in given if name not in held]
        if strange or not given:
            what = strange[0] if strange else recipe.data.streams
            raise ValueError(f"data.streams: {names.suggest('stream', what, held)}")
    else:  # frames, where a record holds both
        frames = {name: row for name, row in held.items() if len(row.shape) > 1}
        given = list(frames or held)
    rows = []
    for side in wanted:
        mine = [held[name] for name in given if ("audio" in name) == (side == "audio")]
        if len(mine) != 1:
            found = ", ".join(held) or "nothing"
            asked = f"data.streams={recipe.data.streams}" if recipe.data.streams else "the streams found"
            raise ValueError(
                f"{train[0]}: holds {found}; expected one stream of {side} among {asked}; give "
                "--set=data.streams=rgb,audio (or mean_rgb,mean_audio; one that is missing is masked), or "
                "--set=model_args.fusion=video (or audio)"
            )
        rows.append(mine[0])
    frames = recipe.data.frames or FRAMES
    return [
        Feature(row.name, (frames, row.shape[1]), "uint8", True) if len(row.shape) > 1 else row
        for row in rows
    ]


def _held(train):
    """Name -> row of the streams in the first records."""
    from tfvc.data import inspection, sources

    copies, held, reason = sources.Copies(), {}, "no whole record of YouTube-8M in it"
    for number, name in enumerate(train):
        if held and number >= _FILES:
            break
        located = sources.locate(name, copies)
        if located[2] < 0:
            reason = sources.unreadable(name)
        for record in sources.head(located, _PEEK):
            with contextlib.suppress(ValueError):  # of another schema: the reader names it
                for row in inspection.rows_in(record, SIZES):
                    held.setdefault(row.name, row)
    if not held:
        raise ValueError(
            f"{train[0]}{f' and {len(train) - 1} more' * (len(train) > 1)}: {reason}; expected shards "
            "with rgb, audio or mean_*"
        )
    return held


def _size(file):
    return Path(file).stat().st_size if "://" not in file else -1
