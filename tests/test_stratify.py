"""Iterative stratification: each label's share in each part, by hand and as laws."""

from collections import Counter

import numpy as np
import pytest

from tfvc.data.datasets import Clip, Dataset
from tfvc.data.splits import split
from tfvc.data.stratify import stratify
from tfvc.recipe import Data

FRACTIONS = (0.6, 0.2, 0.2)


def _sorts(labels, part):
    """Part -> label set -> clips."""
    count = Counter(zip(part.tolist(), labels, strict=True))
    return [{s: n for (j, s), n in sorted(count.items()) if j == k} for k in range(max(part) + 1)]


@pytest.mark.parametrize("seed", range(3))
def test_small_sets_worked_by_hand(seed):
    # Wants of (0.7, 0.3): a 1.4 0.6, b 4.2 1.8. First a: a clip to part 0 (left: a 0.4 0.6, b 3.2 1.8), the
    # other to part 1 (b 3.2 0.8). Then b: to 0 (2.2), 0 (1.2), 0 (0.2), and 1.
    labels = ["ab"] * 2 + ["b"] * 4
    part = stratify(labels, (0.7, 0.3), np.random.default_rng(seed))
    assert _sorts(labels, part) == [{"ab": 1, "b": 3}, {"ab": 1, "b": 1}]
    # Wants: c 1.8 0.6 0.6, d 3 1 1. First c, which three clips hold: to part 0 (c 0.8), and then, as each
    # part is to have one, to 1 and 2, where d wants nothing more. The last two of d go to 0.
    labels = ["cd"] * 3 + ["d"] * 2
    part = stratify(labels, FRACTIONS, np.random.default_rng(seed))
    assert _sorts(labels, part) == [{"cd": 1, "d": 2}, {"cd": 1}, {"cd": 1}]
    # One label a clip, whole wishes: exactly those.
    labels = ["a"] * 10 + ["b"] * 5
    part = stratify(labels, FRACTIONS, np.random.default_rng(seed))
    assert _sorts(labels, part) == [{"a": 6, "b": 3}, {"a": 2, "b": 1}, {"a": 2, "b": 1}]


@pytest.mark.parametrize("seed", range(12))
def test_each_label_keeps_its_share_in_each_part(seed):
    rng = np.random.default_rng(seed)
    clips, classes = int(rng.integers(20, 300)), int(rng.integers(1, 12))
    table = rng.random((clips, classes)) < rng.uniform(0.01, 0.7, classes)
    labels = [tuple(np.flatnonzero(row)) for row in table]
    part = stratify(labels, FRACTIONS, np.random.default_rng(seed))
    assert set(part) <= {0, 1, 2} and len(part) == clips
    wanted = np.outer(FRACTIONS, table.sum(0))
    held = np.array([table[part == k].sum(0) for k in range(3)])
    assert np.abs(held - wanted).max() <= 2
    assert np.abs(np.bincount(part, minlength=3) - clips * np.array(FRACTIONS)).max() <= 2
    assert held[:, table.sum(0) >= 3].all()


def test_a_rare_label_is_in_every_part_where_that_can_be():
    # what the rarest label does with its clips would leave `b` out of a part
    labels = ["ab", "ab", "ab", "b", *["c"] * 20]
    for seed in range(5):
        part = stratify(labels, (0.9, 0.05, 0.05), np.random.default_rng(seed))
        assert all(len(set(part[[s in names for names in labels]])) == 3 for s in "abc")
    assert len(set(stratify(["a", "a"], FRACTIONS, np.random.default_rng(0)))) == 2
    assert set(stratify(["a"] * 4, (1, 0, 0), np.random.default_rng(0))) == {0}
    assert sorted(stratify([()] * 5, FRACTIONS, np.random.default_rng(0))) == [0, 0, 0, 1, 2]
    assert len(stratify([], FRACTIONS, np.random.default_rng(0))) == 0
    with pytest.raises(ValueError, match="that sum to 1"):
        stratify(labels, (0.6, 0.2), np.random.default_rng(0))


def _set(clips=100):
    rng = np.random.default_rng(5)
    shares = {"a": 0.05, "b": 0.3, "c": 0.6}
    made = [
        Clip(f"v{i}", "", tuple(k for k, p in shares.items() if rng.random() < p), group=f"g{i % 7}")
        for i in range(clips)
    ]
    return Dataset("set", "manifest", "", made, [*shares, "never"], True)


def test_a_stratified_split_is_seeded_whole_and_whatever_the_order():
    dataset, data = _set(), Data(split="stratified", test_fraction=0.2, validation_fraction=0.25)
    made = split(dataset, data, 3)
    assert [len(part) for part in made.parts().values()] == [60, 20, 20]
    assert sorted(made.train + made.validation + made.test) == sorted(c.id for c in dataset.clips)
    turned = Dataset("set", "manifest", "", dataset.clips[::-1], dataset.classes, True)
    assert split(turned, data, 3) == made != split(dataset, data, 4)
    for label in "abc":
        holders = {c.id for c in dataset.clips if label in c.labels}
        shares = [len(holders.intersection(part)) for part in made.parts().values()]
        assert np.abs(np.array(shares) - np.array(FRACTIONS) * len(holders)).max() <= 2
    assert [note for note in made.notes if note.startswith("split: no ")] == [
        f"split: no {part} clip of class never" for part in ("training", "validation", "test")
    ]
    assert "split (stratified): 60 training, 20 validation, 20 test clips" in made.notes
    assert made.notes[-1] == "group leakage: 20 of 20 test clips share a group with a training clip"


def test_a_stratified_split_without_validation_and_ones_that_cannot_be():
    dataset = _set()
    made = split(dataset, Data(split="stratified", test_fraction=0.3), 0)
    assert (len(made.train), len(made.validation), len(made.test)) == (70, 0, 30)
    with pytest.raises(ValueError, match="test part is empty"):
        split(dataset, Data(split="stratified", test_fraction=0.0), 0)
    with pytest.raises(ValueError, match="validation part is empty; data.validation_fraction=0 lets"):
        split(_set(2), Data(split="stratified", test_fraction=0.4, validation_fraction=0.01), 0)
    with pytest.raises(ValueError, match="test_groups is for data.split=group; the split is stratified"):
        split(dataset, Data(split="stratified", test_groups=("g1",)), 0)
