"""Shards by pattern -> batches: order, forms of records, other file systems."""

import gzip
import itertools
import os
import re

import numpy as np
import pytest
import tensorflow as tf
from made_records import CLASSES, ROWS, VIDEO, T, clip, flip, names, offsets, shards, write

from tfvc.data import records, schema, sources
from tfvc.recipe import Feature

# --- what is whole ------------------------------------------------------------------------------------------


def test_batches_follow_the_files_and_hold_what_was_written(tmp_path):
    source = records.Records(shards(tmp_path), ROWS, CLASSES)
    batches = list(records.batches(source, 4))
    assert [len(ids) for _, _, ids in batches] == [4, 4, 4, 3]
    ids = [i.decode() for _, _, part in batches for i in part.numpy()]
    assert ids == [f"s{s}-{k}" for s in range(3) for k in range(5)]
    (inputs, labels, _), *_ = batches
    assert {k: (v.dtype.name, tuple(v.shape)) for k, v in inputs.items()} == {
        "rgb": ("uint8", (4, T, 4)),
        "audio": ("uint8", (4, T, 2)),
        "rgb_length": ("int32", (4,)),
        "audio_length": ("int32", (4,)),
    }
    expected = schema.parse_batch(
        tf.constant([clip(n, 1 + k) for k, n in enumerate(ids[:4])]), ROWS, CLASSES, True
    )
    for row in ROWS:
        np.testing.assert_array_equal(inputs[row.name], expected[0][row.name])
        np.testing.assert_array_equal(inputs[f"{row.name}_length"], [1, 2, 3, 4])
    np.testing.assert_array_equal(labels, expected[1])
    assert (
        labels.dtype == tf.float32
        and [len(i) for _, _, i in records.batches(source, 4, drop_remainder=True)] == [4] * 3
    )


def test_forms_of_frame_level_records_are_read_alike(tmp_path):
    made = {
        "plain": clip("plain"),
        "packed": clip("packed", packed=True),
        "none": clip("none", 0),
        "long": clip("long", 2 * T),
        "long packed": clip("long packed", 2 * T, packed=True),
        "rgb only": clip("rgb only", streams=["rgb"]),
        "packed rgb only": clip("packed rgb only", streams=["rgb"], packed=True),
        "without labels": clip("without labels", labels=()),
        "several": clip("several", labels=(4, 0, 4)),
    }
    other = tf.train.SequenceExample.FromString(clip("old name"))
    other.context.feature["video_id"].CopyFrom(other.context.feature.pop("id"))
    made["old name"] = other.SerializeToString()
    empty = tf.train.SequenceExample.FromString(clip("empty labels", labels=()))
    empty.context.feature["labels"].int64_list.SetInParent()
    made["empty labels"] = empty.SerializeToString()
    path = write(tmp_path / "a", made.values())
    found = {}
    for rows in (ROWS, ROWS[::-1]):
        for size in (1, 20):
            for inputs, labels, ids in records.batches(records.Records(str(path), rows, CLASSES), size):
                for k, name in enumerate(ids.numpy()):
                    one = {key: value[k].numpy() for key, value in inputs.items()}
                    found[name.decode()] = one
                    _same_as_written(name.decode(), one, labels[k].numpy())
    assert set(found) == set(made)
    length = {name: (int(one["rgb_length"]), int(one["audio_length"])) for name, one in found.items()}
    assert length == {n: (3, 3) for n in made} | {
        "none": (0, 0),
        "long": (T, T),
        "long packed": (T, T),
        "rgb only": (3, 0),
        "packed rgb only": (3, 0),
    }


def _same_as_written(name, inputs, labels):
    frames = {"none": 0, "long": 2 * T, "long packed": 2 * T}.get(name, 3)
    rng = np.random.default_rng(list(name.encode()))
    for row in ROWS:
        if row.name == "audio" and name.endswith("rgb only"):
            continue
        expected = np.zeros(row.shape, "uint8")
        written = rng.integers(1, 256, (frames, row.shape[1]), "uint8")[:T]
        expected[: len(written)] = written
        np.testing.assert_array_equal(inputs[row.name], expected, err_msg=name)
    wanted = {"several": [0, 4], "without labels": [], "empty labels": []}.get(name, [1])
    assert np.flatnonzero(labels).tolist() == wanted, name


def test_video_level_records_and_vocabularies_of_any_size(tmp_path):
    value = {"mean_rgb": np.arange(4, dtype="float32") - 1.5, "mean_audio": np.ones(2, "float32")}
    old = tf.train.Example.FromString(schema.serialize("b", [4715], value, VIDEO))
    old.features.feature["video_id"].CopyFrom(old.features.feature.pop("id"))
    made = [
        schema.serialize("a", [0, 4715], value, VIDEO),
        old.SerializeToString(),
        schema.serialize("c", [], {"mean_rgb": value["mean_rgb"]}, VIDEO),
    ]
    path = write(tmp_path / "v", made)
    for rows in (VIDEO, VIDEO[::-1]):
        ((inputs, labels, ids),) = records.batches(records.Records(str(path), rows, 4716), 8)
        assert sorted(inputs) == ["mean_audio", "mean_rgb"] and ids.numpy().tolist() == [b"a", b"b", b"c"]
        np.testing.assert_array_equal(inputs["mean_rgb"], [value["mean_rgb"]] * 3)
        np.testing.assert_array_equal(inputs["mean_audio"], [[1, 1], [1, 1], [0, 0]])
        assert [np.flatnonzero(row).tolist() for row in labels.numpy()] == [[0, 4715], [4715], []]


def test_real_records_are_read_whole(shared):
    rows = [Feature("mean_rgb", (1024,)), Feature("mean_audio", (128,))]
    for part, files in (("train", 24), ("validate", 6)):
        folder = shared(f"data/yt8m/{part}")
        pattern = f"{folder}/*.tfrecord"
        assert len(records.files(pattern)) == files
        count = sum(1 for _ in tf.data.TFRecordDataset(records.files(pattern)))
        seen, report = [], records.Report()
        for inputs, labels, ids in records.batches(records.Records(pattern, rows, 3862), 512, report=report):
            assert np.all(labels.numpy().sum(1) >= 1) and np.all(np.any(inputs["mean_rgb"].numpy(), 1))
            seen += ids.numpy().tolist()
        assert len(seen) == len(set(seen)) == count > 250 * files and not report.faults


# --- files --------------------------------------------------------------------------------------------------


def test_several_patterns_zipped_or_not_by_their_bytes_and_not_their_names(tmp_path):
    write(tmp_path / "plain.gz", [clip("a")])
    write(tmp_path / "zipped.tfrecord", [clip("b"), clip("c")], zipped=True)
    two = write(tmp_path / "members", [clip("d")], zipped=True)
    two.write_bytes(two.read_bytes() + gzip.compress(write(tmp_path / "e", [clip("e")]).read_bytes()))
    pattern = f"{tmp_path}/zip*, {tmp_path}/pl*,{tmp_path}/*.gz,{tmp_path}/members"
    assert [os.path.basename(f) for f in records.files(pattern)] == ["members", "plain.gz", "zipped.tfrecord"]
    assert names(pattern) == ["d", "e", "a", "b", "c"]
    assert names([f"{tmp_path}/plain.gz"]) == ["a"]


def test_patterns_that_match_nothing_are_named(tmp_path, monkeypatch):
    (tmp_path / "folder.tfrecord").mkdir()
    for pattern in (f"{tmp_path}/x*.tfrecord", f"{tmp_path}/*"):
        with pytest.raises(FileNotFoundError, match=re.escape(f"{pattern}: no such file; expected")):
            records.files(pattern)
    with pytest.raises(ValueError, match="no pattern of record files; give one"):
        records.files(" , ")

    def refuse(pattern):
        raise tf.errors.UnimplementedError(None, None, "File system scheme 'gs' not implemented")

    monkeypatch.setattr(tf.io.gfile, "glob", refuse)
    monkeypatch.setattr(tf.io.gfile, "get_registered_schemes", lambda: [""])
    with pytest.raises(
        ValueError, match="gs://b/x: cannot be listed .*pip install tensorflow-io-gcs-filesystem"
    ):
        records.files("gs://b/x")


def test_http_addresses_are_read_or_one_line_says_why_not(tmp_path, serve, capsys):
    shards(tmp_path, 2, 40)
    flip(tmp_path / "s1.tfrecord", offsets(tmp_path / "s1.tfrecord")[30] + 20)
    for parts in (True, False):
        address = serve(parts)
        pattern = f"{address}/s0.tfrecord,{address}/s1.tfrecord"
        try:
            sources._load_http(pattern)
        except ValueError as error:  # a TensorFlow that tensorflow-io does not fit
            line = (
                r"http://\S+: TensorFlow \S+ reads http:// only with tensorflow-io, which cannot be loaded "
                r"\(.+\); use TensorFlow 2.16 and tensorflow-io 0.37.1, or download the files first"
            )
            assert re.fullmatch(line, str(error))
            with pytest.raises(ValueError, match="only with tensorflow-io"):
                names(pattern)
            return
        report = records.Report()
        wanted = {f"s{s}-{k}" for s in range(2) for k in range(40)} - {"s1-30"}
        assert set(names(pattern, 16, shuffle=True, on_corrupt="skip", report=report)) == wanted
        assert [(file, reason.split("(")[0]) for file, _, reason in report.faults] == [
            (f"{address}/s1.tfrecord", "the data of a record is damaged ")
        ]
        assert ("sends whole files only" in capsys.readouterr().out) is not parts
        with pytest.raises(ValueError, match=f"{address}/gone, byte 0: cannot be read .*404"):
            names(f"{address}/gone")


# --- order --------------------------------------------------------------------------------------------------


def test_files_behind_those_that_are_read_are_not_opened_yet(tmp_path, monkeypatch):
    opened, plain = [], records._Reader._open
    monkeypatch.setattr(records._Reader, "_open", lambda self, i: (opened.append(i), plain(self, i))[1])
    source = records.Records(shards(tmp_path, count=40, each=2), ROWS, CLASSES)
    next(iter(records.batches(source, 2, shuffle=True)))
    # Each opened file fills a window of its own: eight at once, and what follows those that have ended.
    assert len(set(opened)) <= 12  # 24 with `num_parallel_calls`


def test_a_shuffled_order_follows_from_seed_and_epoch_alone(tmp_path):
    pattern = shards(tmp_path, 3, 100)
    straight = names(pattern)
    first = names(pattern, shuffle=True, seed=1, epochs=2)
    tf.random.set_seed(0)
    assert names(pattern, shuffle=True, seed=1, epochs=2, batch_size=9) == first
    one, two = first[:300], first[300:]
    assert sorted(one) == sorted(two) == sorted(straight) and one != two and one != straight
    assert names(pattern, shuffle=True, seed=2) != one
    assert len({name[:2] for name in one[:200]}) == 3, "files are mixed"
    assert one[:10] != sorted(one[:10], key=straight.index), "and the records of a file"


def test_without_end_and_two_at_once(tmp_path):
    pattern = shards(tmp_path, 2, 3)
    write(tmp_path / "s9.tfrecord", [])
    report = records.Report()
    source = records.Records(pattern, ROWS, CLASSES)
    dataset = records.batches(source, 4, epochs=None, shuffle=True, on_corrupt="skip", report=report)
    pairs = itertools.islice(zip(dataset, dataset, strict=True), 9)
    count = {}
    for (_, _, a), (_, _, b) in pairs:
        np.testing.assert_array_equal(a, b)
        for name in a.numpy():
            count[name] = count.get(name, 0) + 1
    assert sorted(count.values()) == [6] * 6 and [reason for *_, reason in report.faults] == ["an empty file"]


# --- segments -----------------------------------------------------------------------------------------------


def test_segments_are_batched_as_clips_and_bad_ones_named(tmp_path):
    rows = [Feature("rgb", (T, 4), "uint8", True)]
    made = [
        clip("a", 7, (), rows, segments=[(2, 3, 1.0), (0, 1, 0.0), (2, 3, 0.0)]),
        clip("b", 7, (), rows, segments=[(T - 4, 1, 1.0)]),
        clip("c", 3, (), rows, segments=[(1, 4, 1.0)]),
        clip("d", 7, (), rows, segments=[(0, CLASSES, 1.0)]),
        clip("e", 7, (), rows),
    ]
    broken = tf.train.SequenceExample.FromString(clip("f", 7, (), rows, segments=[(0, 1, 1.0)]))
    broken.context.feature["segment_scores"].float_list.value.append(1.0)
    path = write(tmp_path / "a", [*made, broken.SerializeToString()])
    source = records.Records(str(path), rows, CLASSES, segment_size=5)
    report = records.Report()
    ((inputs, labels, ids, weights),) = records.batches(source, 8, on_corrupt="skip", report=report)
    assert ids.numpy().tolist() == [b"a", b"a", b"c"] and inputs["rgb"].shape == (3, 5, 4)
    whole = schema.parse_batch(tf.constant([made[0], made[2]]), rows, CLASSES, True)[0]["rgb"].numpy()
    np.testing.assert_array_equal(inputs["rgb"], [whole[0][2:7], whole[0][:5], whole[1][1:6]])
    np.testing.assert_array_equal(inputs["rgb_length"], [5, 5, 2])
    rated = [np.flatnonzero(row).tolist() for row in weights.numpy()]
    assert rated == [[3], [1], [4]] and np.argwhere(labels.numpy()).tolist() == [[2, 4]]
    assert [reason for *_, reason in report.faults] == [
        f"record 'b': segment start {T - 4}; expected 0 to {T - 5}",
        "record 'd': label 5; expected 0 to 4 (num_classes=5; raise it where the set has more)",
        "record 'f': 1 segment labels, 1 starts, 2 scores; expected as many",
    ]
    with pytest.raises(ValueError, match="record 'b': segment start"), records.readable():
        list(records.batches(source, 8))
    mixed = records.batches(source, 1, on_corrupt="skip", shuffle=True)
    assert sorted(i.numpy()[0] for _, _, i, _ in mixed) == [b"a", b"a", b"c"]


def test_a_wrong_size_is_told_before_the_whole_set_is_read(tmp_path):
    wide = [Feature("rgb", (4, 3), "uint8")]
    write(tmp_path / "f", [schema.serialize("a", [0], {"rgb": np.ones((2, 3), "uint8")}, wide)])
    narrow = [Feature("rgb", (4, 2), "uint8")]
    with pytest.raises(ValueError, match=r"f: rgb has size 3, not 2 \(seen in the first 1 records\)"):
        records.batches(records.Records(str(tmp_path / "f"), narrow, 5), 2, on_corrupt="skip")


def test_without_a_number_of_classes_labels_are_not_looked_at(tmp_path):
    path = write(tmp_path / "f", [clip("a", labels=(99,)), clip("b", labels=())])
    source = records.Records(str(path), ROWS, None)
    with records.readable():
        ((_, labels, ids),) = records.batches(source, 4)
    assert labels.shape == (2, 0) and ids.numpy().tolist() == [b"a", b"b"]
