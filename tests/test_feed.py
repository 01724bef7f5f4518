"""What a run is fed, and what it says of it."""

from dataclasses import replace

import pytest
from made import ROW, make_records, recipe

from tfvc import workdir
from tfvc.data import pipeline, shards
from tfvc.feed import Feed


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return make_records(tmp_path_factory.mktemp("records") / "made-up")


def test_a_handful_of_clips_that_chooses_the_epoch_is_announced(records, capsys):
    ids = shards.read_manifest(records).ids
    facts = workdir.Facts("set", "", records, ["left", "right"], [replace(ROW, shape=(4, 6))])
    for held, fidelity, said in ((3, "corrected", True), (4, "corrected", False), (3, "original", False)):
        split = {"train": ids[:8], "validation": ids[8 : 8 + held], "test": ids[30:]}
        Feed(recipe(fidelity=fidelity), facts, split, 0)
        assert (f"validation: only {held} clips choose the epoch" in capsys.readouterr().out) is said


def test_replicas_share_a_batch_equally_and_what_is_left_out_is_said(records, capsys):
    ids = shards.read_manifest(records).ids
    split = {"train": ids[:13], "validation": [], "test": ids[13:]}
    facts = workdir.Facts("set", "", records, ["left", "right"], [replace(ROW, shape=(4, 6))])
    asked = recipe("train.drop_remainder=false", "train.batch_size=5")
    feed = Feed(asked, facts, split, 0, replicas=2)
    sizes = [len(labels) for _, labels in feed.training(0).take(feed.steps)]
    assert (feed.batch, sizes) == (4, [4, 4, 4])
    assert sum(len(labels) for _, labels in feed.validation()) == 27
    out = capsys.readouterr().out
    assert "1 training clips make no equal parts for 2 replicas and are dropped in each epoch" in out
    with pytest.raises(ValueError, match="16 replicas share a batch of 8; expected at least one clip each"):
        Feed(recipe(), facts, split, 0, replicas=16)


def test_the_first_batches_are_made_once_and_any_step_can_be_asked_for_again(records, monkeypatch):
    ids, made = shards.read_manifest(records).ids, []
    original = pipeline.train_batches
    monkeypatch.setattr(
        pipeline, "train_batches", lambda *a, **k: made.append(k["first_step"]) or original(*a, **k)
    )
    facts = workdir.Facts("set", "", records, ["left", "right"], [replace(ROW, shape=(4, 6))])
    feed = Feed(recipe(), facts, {"train": ids[:16], "validation": [], "test": ids[30:]}, 0)
    runs = [[y.numpy().tolist() for _, y in feed.training(k).take(4 - k)] for k in (0, 2, 0)]
    assert made == [0, 2, 0] and runs[0] == runs[2] and runs[0][2:] == runs[1]
