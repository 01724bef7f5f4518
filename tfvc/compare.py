"""Two finished runs on the same clips: each measure, the difference, and how sure it is."""

import hashlib
import math
import os
from dataclasses import dataclass
from pathlib import Path

from tfvc import bootstrap, cli, evaluate, files, workdir

_NAMES = {"gap": "GAP", "hit_at_one": "Hit@1", "perr": "PERR"} | evaluate.NAMES
_LOWER = ("hamming_loss",)  # is better
_SHOWN = 3  # ids in a message


@dataclass
class Answers:
    """What a run says of clips, and what is true of them."""

    ids: list
    groups: list  # the video that a clip was cut from; "" = unknown
    truth: list  # of each clip, its labels as a tuple of numbers
    cells: int  # of `bootstrap.differences`
    measures: object  # function of the places of clips: their measures under weights, as of `bootstrap`


def compare(first, second, data="", overrides=(), seed=0, on_corrupt="stop"):
    """Measures two runs on the clips that are in both their test parts, paired by id.

    Prints the table and writes it to `FIRST/compare/NAME.json`, NAME being that of the second run's folder;
    to `NAME-<six hex digits of its path>.json` where the first name is taken by a run elsewhere.

    Args:
        first, second: folders of finished runs.
        data: "" = the test parts; else videos, a manifest or records for both, as of `evaluate.evaluate`.
        overrides, on_corrupt: as of `evaluate.evaluate`, for both runs.
        seed: of the resamples.

    Returns:
        dict of `runs`, `models` (SHA-256 of each `model.keras`), `data`, `clips`, `groups`, `interval` (how
        it was made), `seed`, and `measures`, as `bootstrap.differences` gives them, None instead of NaN.

    Raises:
        ValueError: one run twice; runs of different kinds, classes or numbers of labels a clip; no clip in
            common, or one with other labels; what `evaluate.evaluate` refuses.
        FileNotFoundError: no run there, or one that has not finished.
    """
    paths = [Path(first), Path(second)]
    runs = [workdir.load(path) for path in paths]
    if paths[0].resolve() == paths[1].resolve():
        raise ValueError(f"--compare: {paths[0]} twice; expected two runs")
    _check(*runs)
    target = _target(*paths)
    answers = [_answers(run, data, overrides, on_corrupt) for run in runs]
    places, note = _common(paths, answers)
    one, other = answers
    groups = _groups(one, other, places)
    count = len(set(groups))
    found = bootstrap.differences(
        *(answer.measures(place) for answer, place in zip(answers, places, strict=True)),
        groups,
        one.cells,
        seed,
    )
    drawn = "clips" if count == len(groups) else f"{count} groups of clips (of one video)"
    how = (
        f"{100 * bootstrap.LEVEL:g} % percentile interval of the paired bootstrap, {bootstrap.RESAMPLES} "
        f"resamples of {drawn}"
    )
    result = {
        "runs": [str(path.resolve()) for path in paths],
        "models": [files.sha256(path / "model.keras") for path in paths],
        "data": data or "test",
        "clips": len(groups),
        "groups": count,
        "difference": "the second run minus the first",
        "interval": how,
        "seed": seed,
        "measures": {name: {key: _finite(x) for key, x in row.items()} for name, row in found.items()},
    }
    _show(paths, result, note)  # first: what was computed is seen even where it cannot be written
    files.write_json(target, result)
    print(f"written: {_printable(target)}")
    return result


def of_arguments(arguments):
    """`compare` as the command line of `tfvc.evaluate` asks for it."""
    names = [name.strip() for name in arguments.compare.split(",")]
    if arguments.workdir:
        raise cli.Usage("--workdir and --compare: expected one of them; --compare names both runs itself")
    if len(names) != 2 or not all(names):
        raise cli.Usage(
            f"--compare={arguments.compare}: expected two folders of runs, as --compare=RUN1,RUN2; the comma "
            "separates them, so neither name may hold one"
        )
    compare(*names, arguments.data, arguments.set, arguments.seed, arguments.on_corrupt)


def shown(value, form):
    """A number of a comparison as text; "-" where it does not exist.

    Example:
        >>> shown(0.25, "+.4f"), shown(None, "+.4f")
        ('+0.2500', '-')
    """
    return "-" if value is None else format(value, form)


def _finite(value):
    """JSON knows no NaN."""
    return value if math.isfinite(value) else None


def _target(first, second):
    """Where the comparison is written: no other run's is replaced because its folder has the same name."""
    path = str(second.resolve())
    plain = first / "compare" / f"{Path(path).name}.json"
    own = plain.with_stem(f"{plain.stem}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:6]}")
    if own.is_file():
        return own
    try:
        return own if plain.is_file() and files.read_json(plain, "remove it")["runs"][1] != path else plain
    except (KeyError, TypeError, IndexError):
        raise ValueError(f"{plain}: not a comparison of ours; remove it") from None


def _check(first, second):
    """Runs that can be measured alike."""
    one, other = first.facts, second.facts
    names = f"{first.path} and {second.path}"
    if one.kind != other.kind:
        raise ValueError(f"{names}: one on clips, one on records by pattern; expected two of one kind")
    if list(one.classes) != list(other.classes):
        strange = sorted(set(one.classes) ^ set(other.classes)) or "the same ones in another order"
        raise ValueError(
            f"{names}: {len(one.classes)} and {len(other.classes)} classes that differ ({strange[:5]}); "
            "expected the same"
        )
    if one.multi_label != other.multi_label:
        raise ValueError(f"{names}: one gives a clip one label, one several; expected two of one kind")


def _answers(run, data, overrides, on_corrupt):
    if run.facts.kind == "yt8m":
        from tfvc.yt8m import compare as of_records

        return of_records.answers(run, data, overrides, on_corrupt)
    if on_corrupt != "stop":
        raise ValueError(f"--on_corrupt={on_corrupt}: only for runs on records by pattern; leave it out")
    import numpy as np

    from tfvc.data import shards

    recipe = evaluate.settable(run.recipe, overrides, evaluate.SETTABLE)
    source, _, (ids, truth, labels, scores) = evaluate.decided(
        run, run.model(), recipe, data, overrides=overrides
    )
    group = {record["id"]: record["group"] for record in shards.read_manifest(source.folder).records}
    classes = truth.shape[1]

    def measures(places):
        there = truth[places]
        if run.facts.multi_label:
            return bootstrap.of_labels(there, labels[places], scores[places])
        best = np.argmax(scores if labels is None else labels, axis=1)
        return bootstrap.of_one_label(np.argmax(there, axis=1), best[places], classes)

    known = [tuple(np.flatnonzero(row).tolist()) for row in truth]
    return Answers(ids, [group[i] for i in ids], known, 1, measures)


def _common(paths, answers):
    """Of each run the places of the clips that both have, in one order; and a line where that is not all."""
    place = [{name: k for k, name in enumerate(answer.ids)} for answer in answers]
    for path, answer, found in zip(paths, answers, place, strict=True):
        if len(found) < len(answer.ids):
            raise ValueError(
                f"{path}: {len(answer.ids) - len(found)} ids of clips occur twice; nothing to pair"
            )
    shared = [name for name in answers[0].ids if name in place[1]]
    sizes = f"{paths[0]} has {len(place[0])}, {paths[1]} {len(place[1])}"
    if not shared:
        raise ValueError(
            f"no clip is in both test parts ({sizes}); expected runs on one data set and split, or --data"
        )
    places = [[found[name] for name in shared] for found in place]
    other = [n for n, i, j in zip(shared, *places, strict=True) if answers[0].truth[i] != answers[1].truth[j]]
    if other:
        raise ValueError(
            f"{len(other)} of {len(shared)} common clips have other labels in the other run "
            f"({', '.join(map(files.printable, other[:_SHOWN]))}); expected runs on one data set"
        )
    all_there = len(shared) == len(place[0]) == len(place[1])
    return (
        places,
        "" if all_there else f"{len(shared)} clips are in both test parts ({sizes}); the rest is left out",
    )


def _groups(one, other, places):
    """Of each common clip, the video it was cut from, as the first run that knows says; else itself."""
    pairs = zip(*places, strict=True)
    named = [(one.groups[i] or other.groups[j], one.ids[i]) for i, j in pairs]
    return [f"group {group}" if group else f"clip {name}" for group, name in named]


def _printable(path):
    return files.printable(files.shown(path))


def _show(paths, result, note):
    if note:
        print(files.printable(note))
    width = max(len(_NAMES.get(name, name)) for name in result["measures"])
    print(f"first: {_printable(paths[0])}\nsecond: {_printable(paths[1])}")
    few = result["groups"] < bootstrap.LEAST
    print(f"{'':{width}}   first  second  difference  95 % interval")
    for name, row in result["measures"].items():
        low, high = row["low"], row["high"]
        first, second = (shown(row[key], ".4f") for key in ("first", "second"))
        interval = "-" if low is None else f"{low:+.4f} to {high:+.4f}"
        sure = "" if few or low is None or low <= 0 <= high else "  *"
        lower = " (lower is better)" * (name in _LOWER)
        print(
            f"{_NAMES.get(name, name):{width}}  {first:>6}  {second:>6}  "
            f"{shown(row['difference'], '+.4f'):>10}  {interval}{sure}{lower}"
        )
    print(
        f"{result['clips']} clips; {result['interval']}, seed {result['seed']}; *: 0 lies outside"
        + f" (none is given: under {bootstrap.LEAST} groups all agree by chance too often)" * few
    )
