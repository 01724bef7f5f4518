"""Splits: seeded, whole groups, official lists, and the leakage that each of them reports."""

import pytest

from tfvc.data.datasets import Clip, Dataset, load
from tfvc.data.splits import split
from tfvc.recipe import Data


def _set(groups, clips=3, **parts):
    """`{"a": 4}` -> class a of four groups of three clips."""
    made = [
        Clip(f"{c}{g}_{k}", "", (c,), group=f"{c}_g{g}", part=parts.get(f"{c}{g}", ""))
        for c, n in groups.items()
        for g in range(n)
        for k in range(clips)
    ]
    return Dataset("set", "folder", "", made, sorted(groups), False)


def _groups(dataset, ids):
    return {c.group for c in dataset.clips if c.id in set(ids)}


def _sane(dataset, made):
    everything = [*made.train, *made.validation, *made.test]
    assert len(everything) == len(set(everything)) and set(everything) <= {c.id for c in dataset.clips}


def test_a_random_split_is_seventy_to_thirty_seeded_and_says_that_it_leaks():
    dataset = _set({"a": 10, "b": 10}, clips=5)
    first = split(dataset, Data(split="random"), 3)
    again = split(dataset, Data(split="random"), 3)
    other = split(dataset, Data(split="random"), 4)
    _sane(dataset, first)
    assert first == again and first.test != other.test
    assert (len(first.train), len(first.validation), len(first.test)) == (70, 0, 30)
    shared = _groups(dataset, first.train)
    leaked = sum(c.group in shared for c in dataset.clips if c.id in set(first.test))
    assert (
        leaked
        and f"group leakage: {leaked} of 30 test clips share a group with a training clip" in first.notes
    )
    assert "split (random): 70 training, 0 validation, 30 test clips" in first.notes


def test_the_order_in_which_clips_are_listed_does_not_matter():
    dataset = _set({"a": 5, "b": 5})
    turned = Dataset("set", "folder", "", dataset.clips[::-1], dataset.classes, False)
    for way in ("random", "group"):
        assert split(dataset, Data(split=way), 1) == split(turned, Data(split=way), 1)


@pytest.mark.parametrize("seed", range(5))
def test_a_group_split_keeps_groups_whole_and_classes_balanced(seed):
    dataset = _set({"a": 10, "b": 4, "c": 2})
    made = split(dataset, Data(split="group", validation_fraction=0.2), seed)
    _sane(dataset, made)
    train, validation, test = (_groups(dataset, p) for p in (made.train, made.validation, made.test))
    assert not (train & test or train & validation or validation & test)
    count = {c: sum(i.startswith(c) for i in made.test) for c in "abc"}
    assert count == {"a": 9, "b": 3, "c": 3}  # of 30, 12 and 6: the nearest whole groups to 30 %
    assert "group leakage: 0 of 15 test clips share a group with a training clip" in made.notes
    assert {i[0] for i in made.validation} == {"a", "b"}  # c has one training group left, and keeps it
    assert "split: no validation clip of class c" in made.notes


def test_group_splits_differ_by_seed():
    dataset = _set({"a": 10, "b": 10})
    tests = {tuple(split(dataset, Data(split="group"), seed).test) for seed in range(5)}
    assert len(tests) > 1


def test_clips_of_unknown_group_stand_alone_and_leakage_is_said_to_be_unknown():
    clips = [Clip(f"{c}{k}", "", (c,)) for c in "ab" for k in range(10)]
    dataset = Dataset("set", "folder", "", clips, ["a", "b"], False)
    made = split(dataset, Data(split="group"), 0)
    assert (len(made.train), len(made.test)) == (14, 6)
    assert "group leakage: cannot be checked, no clip names its group" in made.notes


def test_a_class_of_one_group_is_refused_by_name_under_a_group_split():
    dataset = _set({"a": 3, "lonely": 1})
    for data in (Data(split="group"), Data(split="group", test_groups=("a_g0",))):
        with pytest.raises(ValueError, match=r"only one group in class 'lonely' \(lonely_g0\)"):
            split(dataset, data, 0)
    assert split(dataset, Data(split="random"), 0).test


def test_named_groups_are_exactly_the_test_part():
    dataset = _set({"a": 3, "b": 3})
    made = split(dataset, Data(split="group", test_groups=("a_g1", "b_g2")), 0)
    assert _groups(dataset, made.test) == {"a_g1", "b_g2"} and len(made.train) == 12
    with pytest.raises(ValueError, match="unknown group 'a_g9'; the 6 groups: a_g0, "):
        split(dataset, Data(split="group", test_groups=("a_g9",)), 0)
    with pytest.raises(ValueError, match="test_groups is for data.split=group; the split is random"):
        split(dataset, Data(split="random", test_groups=("a_g1",)), 0)
    with pytest.raises(ValueError, match="training part is empty"):
        split(dataset, Data(split="group", test_groups=tuple(f"{c}_g{g}" for c in "ab" for g in range(3))), 0)


def test_groups_across_classes_and_several_labels_stay_whole():
    clips = [
        Clip(f"{g}{k}", "", ("a", "b") if g % 2 else ("a",), group=str(g))
        for g in range(10)
        for k in range(3)
    ]
    dataset = Dataset("set", "manifest", "", clips, ["a", "b"], True)
    made = split(dataset, Data(split="group"), 0)
    assert not _groups(dataset, made.train) & _groups(dataset, made.test)
    assert 6 <= len(made.test) <= 12 and {c.labels for c in clips if c.id in made.test} >= {("a", "b")}


def test_official_parts_are_taken_as_they_are():
    dataset = _set(
        {"a": 4, "b": 4}, a0="test", b0="test", a1="train", a2="train", b1="train", b2="train", b3="train"
    )
    made = split(dataset, Data(split="official"), 0)
    assert _groups(dataset, made.test) == {"a_g0", "b_g0"} and len(made.train) == 15 and not made.validation
    assert "split: 3 clips are in no official list and are left out" in made.notes
    held = split(dataset, Data(split="official", validation_fraction=0.3), 0)
    assert held.test == made.test and _groups(dataset, held.validation) <= _groups(dataset, made.train)
    assert {i[0] for i in held.validation} == {"a", "b"}
    own = _set(
        {"a": 3, "b": 3}, a0="test", b0="test", a1="validation", b1="validation", a2="train", b2="train"
    )
    made = split(own, Data(split="official", validation_fraction=0.9), 0)
    assert _groups(own, made.validation) == {"a_g1", "b_g1"}


def test_official_falls_back_to_groups_and_says_so():
    dataset = _set({"a": 4, "b": 4})
    made = split(dataset, Data(split="official"), 0)
    assert made.notes[0] == "split: the data set has no official lists; split by group instead"
    assert made.test == split(dataset, Data(split="group"), 0).test


def test_empty_parts_are_refused():
    with pytest.raises(ValueError, match="the training part is empty"):
        split(_set({"a": 1, "b": 1}, a0="test", b0="test"), Data(split="official"), 0)
    with pytest.raises(ValueError, match="the test part is empty"):
        split(_set({"a": 3, "b": 3}), Data(split="random", test_fraction=0.0), 0)
    with pytest.raises(ValueError, match="validation part is empty; data.validation_fraction=0 lets"):
        split(_set({"a": 2, "b": 2}), Data(split="group", validation_fraction=0.2), 0)
    with pytest.raises(ValueError, match="no clips to split"):
        split(_set({"a": 2, "b": 2}), Data(), 0, ids=[])


def test_only_the_clips_that_were_extracted_are_split():
    dataset = _set({"a": 3, "b": 3, "c": 2})
    ids = [c.id for c in dataset.clips if not c.id.startswith("c") and not c.id.endswith("_0")]
    made = split(dataset, Data(split="group"), 0, ids)
    assert sorted([*made.train, *made.test]) == sorted(ids)
    assert "split: no training clip of class c" in made.notes


def test_ucf101_lists_put_all_punch_clips_on_one_side_and_that_is_said(shared):
    data = Data(lists=str(shared("data/ucf101_splits")), split="official")
    made = split(load(data, str(shared("data/ucf101"))), data, 0)
    assert any(note.startswith("split: no training clip of class Punch") for note in made.notes)
    assert any("group leakage: 0 of" in note for note in made.notes)
    with pytest.raises(ValueError, match="SoccerJuggling"):
        split(load(data, str(shared("data/ucf101"))), Data(split="group"), 0)
