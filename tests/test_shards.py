"""The folder of records: whole or absent, the same bytes however often it was interrupted."""

import csv
import json
import os

import numpy as np
import pytest

from tfvc.data import schema, shards
from tfvc.data.datasets import Clip, Dataset, load
from tfvc.recipe import Data, Feature, digest

ROWS = [Feature("frames", (None, 2))]
SETTINGS = {"backbone.name": "vgg19", "backbone.size": (224, 224), "data.fps": 1.0}


def dataset(count=7):
    clips = [
        Clip(f"{'ab'[k % 2]}/{k}", f"/v/{k}.mp4", ("ab"[k % 2],), group=f"g{k // 2}") for k in range(count)
    ]
    return Dataset("set", "folder", "", clips, ["a", "b"], False)


def write(folder, made, shard_clips=3, only=None, bad=()):
    """Extracts without a network: clip k has k + 1 frames of the value k."""
    shards.open_folder(folder, SETTINGS, made, ROWS, shard_clips)
    plan = shards.plan(made.clips, shard_clips)
    for index, clips in enumerate(plan):
        if shards.done(folder, index) or (only is not None and index not in only):
            continue
        skipped = []
        shards.write_shard(folder, index, _records(made, clips, skipped, bad), skipped)
    return shards.finish(folder) if only is None else None


def _records(made, clips, skipped, bad):
    for clip in clips:
        k = int(clip.id.rsplit("/")[-1])
        if k in bad:
            skipped.append((clip.path, "no video stream"))
            continue
        value = np.full((k + 1, 2), k, "float32")
        labels = [made.classes.index(n) for n in clip.labels]
        yield clip.id, schema.serialize(clip.id, labels, {"frames": value}, ROWS), len(value)


def _bytes(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def test_the_plan_depends_on_ids_only_and_loses_none():
    clips = dataset(50).clips
    plan = shards.plan(clips, 16)
    assert [len(s) for s in plan] == [16, 16, 16, 2] and plan == shards.plan(clips[::-1], 16)
    assert sorted(c.id for s in plan for c in s) == sorted(c.id for c in clips)
    assert all({c.labels for c in s} == {("a",), ("b",)} for s in plan[:3])


def test_the_manifest_holds_all_that_is_needed_afterwards(tmp_path):
    made = write(tmp_path / "r", dataset(), bad=(2,))
    manifest = shards.read_manifest(tmp_path / "r")
    assert made == manifest and manifest.complete
    assert (manifest.dataset, manifest.classes, manifest.clips, manifest.shard_count) == (
        "set",
        ["a", "b"],
        7,
        3,
    )
    assert manifest.features == ROWS and manifest.settings["backbone.size"] == [224, 224]
    assert sorted(manifest.ids) == ["a/0", "a/4", "a/6", "b/1", "b/3", "b/5"]
    record = next(r for r in manifest.records if r["id"] == "b/3")
    assert (record["frames"], record["labels"], record["group"]) == (4, [1], "g1")
    assert manifest.skipped == [("/v/2.mp4", "no video stream")]
    with open(tmp_path / "r" / "skipped.csv", newline="") as f:
        assert list(csv.reader(f)) == [["path", "reason"], ["/v/2.mp4", "no video stream"]]
    for shard in manifest.shards:
        assert (tmp_path / "r" / shard["file"]).stat().st_size == shard["bytes"]


def test_records_are_a_data_set_again(tmp_path):
    made = dataset()
    write(tmp_path / "r", made)
    found = load(Data(), str(tmp_path / "r"))
    assert (found.kind, found.name, found.classes) == ("records", "set", ["a", "b"])
    assert {(c.id, c.labels, c.group) for c in found.clips} == {(c.id, c.labels, c.group) for c in made.clips}


def test_an_interrupted_folder_ends_with_the_same_bytes(tmp_path):
    write(tmp_path / "whole", dataset(), bad=(2, 5))
    folder = tmp_path / "broken"
    write(folder, dataset(), only=[1], bad=(2, 5))
    (folder / ".shard-00000.tfrecord.1.part").write_bytes(b"half")
    with pytest.raises(ValueError, match="1 of 3 shards are extracted; start the same command again"):
        shards.read_manifest(folder)
    with pytest.raises(ValueError, match="2 of 3 shards are missing"):
        shards.finish(folder)
    write(folder, dataset(), only=[0, 2], bad=(2, 5))
    # killed before the manifest: opening the folder completes it
    assert shards.open_folder(folder, SETTINGS, dataset(), ROWS, 3).complete
    assert _bytes(folder) == _bytes(tmp_path / "whole")


def test_other_settings_or_clips_are_refused_naming_the_difference(tmp_path):
    write(tmp_path, dataset())
    with pytest.raises(ValueError, match="other settings; expected the same, .*data.fps: 1.0 -> 2.0"):
        shards.open_folder(tmp_path, SETTINGS | {"data.fps": 2.0}, dataset(), ROWS, 3)
    with pytest.raises(ValueError, match="another data set .clips: 7 -> 8"):
        shards.open_folder(tmp_path, SETTINGS, dataset(8), ROWS, 3)
    assert shards.open_folder(tmp_path, SETTINGS, dataset(), ROWS, 3).complete


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "holiday.mp4").write_bytes(b"")
    with pytest.raises(ValueError, match="not a folder of records, and not empty"):
        shards.open_folder(tmp_path, SETTINGS, dataset(), ROWS, 3)
    (tmp_path / "manifest.json").write_text('{"name": "an app"}')
    with pytest.raises(ValueError, match="expected format"):
        shards.open_folder(tmp_path, SETTINGS, dataset(), ROWS, 3)
    assert sorted(os.listdir(tmp_path)) == ["holiday.mp4", "manifest.json"]
    with pytest.raises(FileNotFoundError, match="expected a folder that python -m tfvc.extract wrote"):
        shards.read_manifest(tmp_path / "nowhere")


def test_ids_cannot_write_outside_the_folder(tmp_path):
    ids = ["../../evil", "/etc/evil", "a\\..\\evil", "\n", ".."]
    clips = [Clip(i, i, ("ab"[k % 2],)) for k, i in enumerate(ids)]
    folder = tmp_path / "deep" / "r"
    made = Dataset("set", "manifest", "", clips, ["a", "b"], False)
    shards.open_folder(folder, SETTINGS, made, ROWS, 2)
    with pytest.raises(ValueError, match="clip 'b/1' is not of the data set"):
        shards.write_shard(folder, 0, [("b/1", b"", 1)], [])
    for index, part in enumerate(shards.plan(clips, 2)):
        records = [(c.id, schema.serialize(c.id, [0], {}, ROWS), 0) for c in part]
        shards.write_shard(folder, index, records, [])
    assert sorted(shards.finish(folder).ids) == sorted(ids)
    written = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    names = [f"shard-0000{k}.{kind}" for k in range(3) for kind in ("json", "tfrecord")]
    assert written == {f"deep/r/{name}" for name in [*names, "manifest.json", "skipped.csv", "warnings.csv"]}
    with pytest.raises(ValueError, match="complete already"):
        shards.write_shard(folder, 0, [], [])


def test_a_shard_of_skipped_clips_only_is_there_and_empty(tmp_path):
    manifest = write(tmp_path, dataset(), bad=range(7))
    assert manifest.complete and manifest.ids == [] and len(manifest.skipped) == 7


def test_damage_is_found_and_named_and_mended(tmp_path, capsys):
    before = write(tmp_path, dataset())
    shards.verify(tmp_path)
    shard = tmp_path / "shard-00001.tfrecord"
    good = shard.read_bytes()
    shard.write_bytes(good[:-1] + b"\0" if good[-1] else good[:-1] + b"\1")
    shards.check_sizes(before)
    with pytest.raises(ValueError, match="shard-00001.tfrecord: damaged .checksum.*remove it and start"):
        shards.verify(tmp_path)
    shard.write_bytes(good[:-5])
    with pytest.raises(
        ValueError, match=f"shard-00001.tfrecord: {len(good) - 5} bytes, expected {len(good)}"
    ):
        shards.verify(tmp_path)
    shard.unlink()
    with pytest.raises(ValueError, match="shard-00001.tfrecord: missing"):
        shards.check_sizes(before)
    again = write(tmp_path, dataset())
    assert "a shard is missing or cut short" in capsys.readouterr().out
    assert again == before and shard.read_bytes() == good


@pytest.mark.parametrize(
    "where, value",
    [
        (("shards", 0, "file"), "../../etc/passwd"),
        (("shards", 0, "records", 0, "labels"), ["a"]),
        (("shards", 0, "records", 0, "frames"), None),
        (("shards", 0, "bytes"), [1]),
        (("shards",), {"a": 1}),
        (("classes",), [1, 2]),
        (("settings",), "x"),
        (("features",), [3]),
        (("features", 0, "dtype"), "f9"),
        (("features", 0, "shape"), [None, "x"]),
        (("shards", 0, "records", 0, "labels"), [9]),
        (("shards", 0, "records", 0, "frames"), -1),
        (("complete",), "no"),
        (("shard_count",), "x"),
        (("classes",), ["a", "a"]),
    ],
)
def test_an_edited_manifest_is_refused_by_name(tmp_path, where, value):
    write(tmp_path, dataset())
    tree = json.loads((tmp_path / "manifest.json").read_text())
    part = tree
    for key in where[:-1]:
        part = part[key]
    part[where[-1]] = value
    (tmp_path / "manifest.json").write_text(json.dumps(tree))
    with pytest.raises(ValueError, match=r"manifest\.json: not a manifest of this version"):
        shards.read_manifest(tmp_path)


@pytest.mark.parametrize("other", [["flood", "storm"], ["storm", "fog"], ["storm"], [], None])
def test_a_vocabulary_other_than_that_of_its_settings_is_refused(tmp_path, other):
    words = ["storm", "flood"]
    settings = SETTINGS | {"text.vocabulary": digest(words)}
    assert shards.open_folder(tmp_path, settings, dataset(), ROWS, 3, words).vocabulary == words
    tree = json.loads((tmp_path / "manifest.json").read_text()) | {"vocabulary": other}
    if other is None:
        del tree["vocabulary"]
    (tmp_path / "manifest.json").write_text(json.dumps(tree))
    with pytest.raises(ValueError, match=r"manifest\.json: not a manifest of .*a vocabulary that is not"):
        shards.read_manifest(tmp_path)


def test_nothing_in_the_manifest_tells_when_or_where(tmp_path):
    write(tmp_path / "one", dataset())
    write(tmp_path / "two", dataset())
    assert _bytes(tmp_path / "one") == _bytes(tmp_path / "two")
    assert str(tmp_path) not in json.dumps(json.loads((tmp_path / "one" / "manifest.json").read_text()))
