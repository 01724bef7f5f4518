"""Training, validation and test clips: drawn at random, by group, by label, or as the official lists say."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

import numpy as np

from tfvc.data.stratify import stratify


@dataclass(frozen=True)
class Split:
    """Sorted clip ids of each part. `validation` is empty where none was asked for: the test part serves."""

    train: list
    validation: list
    test: list
    notes: list = field(default_factory=list)  # lines for the user: sizes, group leakage, fallbacks

    def parts(self):
        """`{"train": [...], "validation": [...], "test": [...]}`, as `split.json` holds it."""
        return {"train": self.train, "validation": self.validation, "test": self.test}


def split(dataset, data, seed, ids=None):
    """Splits a data set.

    - `random`: a seeded draw over clips (the published program's way, which leaks groups).
    - `group`: whole groups, each class as near `test_fraction` as its groups allow; or exactly
      `data.test_groups`. A clip of no known group is a group by itself.
    - `stratified`: a seeded draw in which each label keeps its share in all three parts (`stratify`); groups
      are not looked at.
    - `official`: the parts that lists or a manifest's `split` column name; where there are none, by group.
      Without a test part the validation part is the test part.

    Args:
        dataset: a `datasets.Dataset`.
        data: `recipe.Data`: split, test_fraction, validation_fraction (of the training part), test_groups.
        seed: of the draw.
        ids: the clips that were really extracted; None = all.

    Returns:
        A Split whose notes always say the sizes and how many test clips share a group with training.

    Raises:
        ValueError: an empty part, a class of one group only under a group split, an unknown test group.
    """
    wanted = None if ids is None else set(ids)
    clips = sorted((c for c in dataset.clips if wanted is None or c.id in wanted), key=lambda c: c.id)
    if not clips:
        raise ValueError(f"{dataset.name}: no clips to split")
    rng = np.random.default_rng(seed)
    notes, way = [], data.split
    if way == "official" and not any(c.part for c in clips):
        notes.append("split: the data set has no official lists; split by group instead")
        way = "group"
    if data.test_groups and way != "group":
        raise ValueError(f"data.test_groups is for data.split=group; the split is {way}")
    if way == "official":
        train, validation, test = ([c for c in clips if c.part == p] for p in ("train", "validation", "test"))
        if validation and not test:  # as Kinetics is published: what is measured there is `validate`
            notes.append("split: the official lists have no test part; their validation part is it")
            validation, test = [], validation
        left = sum(not c.part for c in clips)
        if left:
            notes.append(f"split: {left} clips are in no official list and are left out")
        _refuse_empty(training=train, test=test)
    else:
        validation = []
        if way == "stratified":
            train, validation, test = _by_label(clips, data, rng)
        elif way == "random":
            train, test = _at_random(clips, data.test_fraction, rng)
        elif data.test_groups:
            train, test = _named(clips, [str(g) for g in data.test_groups])
        else:
            _refuse_single_groups(clips)
            train, test = _by_group(clips, data.test_fraction, rng)
        _refuse_empty(training=train, test=test)
    if data.validation_fraction:
        if not validation and way != "stratified":
            draw = _at_random if way == "random" else _by_group
            train, validation = draw(train, data.validation_fraction, rng)
        hint = "data.validation_fraction=0 lets the test part serve"
        _refuse_empty(hint, training=train, validation=validation)
    alone = sum(not c.group for c in clips)
    if way == "group" and alone:
        notes.append(
            f"split: {alone} of {len(clips)} clips name no group, so each of them counts as one of its own; "
            "a manifest's column group would say which were cut from the same video"
        )
    notes += _absent(dataset.classes, train, validation, test)
    sizes = f"split ({way}): {len(train)} training, {len(validation)} validation, {len(test)} test clips"
    return Split(
        *([c.id for c in part] for part in (train, validation, test)),
        [*notes, sizes, _leak(train + validation, test)],
    )


def _at_random(clips, fraction, rng):
    order = rng.permutation(len(clips))
    held = set(order[: round(fraction * len(clips))].tolist())
    return [c for i, c in enumerate(clips) if i not in held], [c for i, c in enumerate(clips) if i in held]


def _by_label(clips, data, rng):
    rest = 1 - data.test_fraction
    fractions = (rest * (1 - data.validation_fraction), rest * data.validation_fraction, data.test_fraction)
    part = stratify([c.labels for c in clips], fractions, rng)
    return ([c for c, p in zip(clips, part, strict=True) if p == k] for k in range(3))


def _group(clip):
    return clip.group or f"clip {clip.id}"  # unknown: by itself


def _by_group(clips, fraction, rng):
    """Holds out whole groups: each class near its share, and never the last group of a class."""
    groups = defaultdict(list)
    for clip in clips:
        groups[_group(clip)].append(clip)
    names = sorted(groups)
    rng.shuffle(names)
    count = {g: Counter(label for c in groups[g] for label in c.labels) for g in names}
    total = sum(count.values(), Counter())
    left = Counter(label for g in names for label in count[g])  # groups of a class that still train
    held, taken = Counter(), set()

    def gain(g):  # how much nearer to its share each class comes, squared
        old = sum((held[k] - fraction * total[k]) ** 2 for k in count[g])
        return old - sum((held[k] + n - fraction * total[k]) ** 2 for k, n in count[g].items())

    def take(g):
        taken.add(g)
        held.update(count[g])
        left.subtract(count[g].keys())

    def spare(g):
        return all(left[k] > 1 for k in count[g])

    for g in names:
        if spare(g) and gain(g) > 0:
            take(g)
    for label in sorted(total):  # a class whose every group is over its share still gives the nearest
        able = [g for g in names if label in count[g] and spare(g)]
        if not held[label] and able and fraction:
            take(max(able, key=gain))
    return [c for c in clips if _group(c) not in taken], [c for c in clips if _group(c) in taken]


def _named(clips, wanted):
    known = {c.group for c in clips if c.group}
    unknown = [g for g in wanted if g not in known]
    if unknown:
        some = ", ".join(sorted(known)[:5]) or "none"
        raise ValueError(
            f"data.test_groups: unknown group {unknown[0]!r}; the {len(known)} groups: {some} ..."
        )
    _refuse_single_groups(clips)
    return [c for c in clips if c.group not in wanted], [c for c in clips if c.group in wanted]


def _refuse_single_groups(clips):
    groups = defaultdict(set)
    for clip in clips:
        for label in clip.labels:
            groups[label].add(_group(clip))
    single = sorted(label for label, found in groups.items() if len(found) == 1)
    if single:
        names = ", ".join(f"{label!r} ({next(iter(groups[label]))})" for label in single)
        raise ValueError(
            f"split by group: only one group in class {names}, so it cannot be in both training and test; "
            "add clips, leave the class out, or use data.split=random"
        )


def _refuse_empty(hint="change data.split, data.test_fraction or data.test_groups", **parts):
    for name, clips in parts.items():
        if not clips:
            raise ValueError(f"split: the {name} part is empty; {hint}")


def _absent(classes, train, validation, test):
    notes = []
    for name, part in (("training", train), ("validation", validation), ("test", test)):
        have = {label for c in part for label in c.labels}
        none = [c for c in classes if c not in have]
        if none and part:
            notes.append(f"split: no {name} clip of class {', '.join(none)}")
    return notes


def _leak(train, test):
    if not any(c.group for c in [*train, *test]):
        return "group leakage: cannot be checked, no clip names its group"
    known = {c.group for c in train if c.group}
    shared = sum(c.group in known for c in test)
    return f"group leakage: {shared} of {len(test)} test clips share a group with a training clip"
