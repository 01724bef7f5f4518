"""From shards to batches: exact order, exact resume, read once where it fits, clear words where it breaks."""

import json
import sys

import numpy as np
import pytest
import tensorflow as tf

from tfvc.data import pipeline, schema, shards
from tfvc.data.datasets import Clip, Dataset
from tfvc.recipe import Feature

T = 3


def _records(folder, samples, labels, classes, shard_clips=4, dtype="float32"):
    """A complete folder of records, in the given order, `shard_clips` a shard."""
    rows = [Feature("frames", (None, *samples[0].shape[1:]), dtype)]
    clips = [Clip(f"c{k:03d}", "", tuple(classes[i] for i in ls)) for k, ls in enumerate(labels)]
    several = any(len(ls) > 1 for ls in labels)
    shards.open_folder(
        folder, {"n": len(clips)}, Dataset("set", "", "", clips, classes, several), rows, shard_clips
    )
    for index, first in enumerate(range(0, len(clips), shard_clips)):
        part = range(first, min(first + shard_clips, len(clips)))
        records = [
            (
                clips[k].id,
                schema.serialize(clips[k].id, labels[k], {"frames": samples[k]}, rows),
                len(samples[k]),
            )
            for k in part
        ]
        shards.write_shard(folder, index, records, [])
    shards.finish(folder)
    return pipeline.Source(folder, [Feature("frames", (T, *rows[0].shape[1:]), dtype)], classes, several)


@pytest.fixture(autouse=True)
def global_seed():
    """`training.start` sets one, and some of tf.data minds."""
    tf.random.set_seed(0)


@pytest.fixture
def source(tmp_path):
    """23 clips: clip k has 1 + k % 5 frames of the value k + 1."""
    samples = [np.full((1 + k % 5, 2), k + 1, "float32") for k in range(23)]
    return _records(tmp_path / "r", samples, [[k % 3] for k in range(23)], ["a", "b", "c"])


def _clips(batch):
    return (batch[0]["frames"][:, 0, 0].numpy().astype(int) - 1).tolist()


def _take(source, count, batch_size=5, **arguments):
    arguments = {"seed": 1, "shuffle": True, "drop_remainder": False} | arguments
    dataset, steps = pipeline.train_batches(source, batch_size, **arguments)
    return [_clips(b) for b in dataset.take(count)], steps


IN_MEMORY, FROM_DISK = {"cache_mb": 1}, {"cache_mb": 0}
WAYS = pytest.mark.parametrize("way", [IN_MEMORY, FROM_DISK], ids=["memory", "disk"])


@WAYS
def test_an_epoch_holds_each_clip_once_with_its_frames_and_label(source, way):
    dataset, steps = pipeline.train_batches(source, 5, seed=0, shuffle=True, drop_remainder=False, **way)
    assert steps == 5
    for epoch in range(2):
        seen = []
        for inputs, labels in dataset.skip(epoch * steps).take(steps):
            for frames, label in zip(inputs["frames"].numpy(), labels.numpy(), strict=True):
                k = int(frames[0, 0]) - 1
                expected = np.zeros((T, 2), "float32")
                expected[: min(T, 1 + k % 5)] = k + 1
                np.testing.assert_array_equal(frames, expected)
                np.testing.assert_array_equal(label, np.eye(3)[k % 3])
                seen.append(k)
        assert sorted(seen) == list(range(23))


@WAYS
def test_the_order_is_a_function_of_seed_and_epoch(source, way):
    first, _ = _take(source, 15, **way)
    assert first == _take(source, 15, **way)[0]
    assert first != _take(source, 15, seed=2, **way)[0]
    epochs = [sum(first[k : k + 5], []) for k in (0, 5, 10)]
    assert len({tuple(e) for e in epochs}) == 3 and all(e != sorted(e) for e in epochs)


@WAYS
@pytest.mark.parametrize("drop_remainder", [False, True])
def test_any_step_can_be_resumed_exactly(source, way, drop_remainder):
    for shuffle in (True, False):
        arguments = way | {"drop_remainder": drop_remainder, "shuffle": shuffle}
        unbroken, steps = _take(source, 14, **arguments)
        assert steps == (4 if drop_remainder else 5)
        for step in (1, steps - 1, steps, steps + 2, 2 * steps + 1):
            resumed, _ = _take(source, 14 - step, first_step=step, **arguments)
            assert resumed == unbroken[step:], step


@WAYS
def test_without_shuffling_each_epoch_is_in_the_order_of_the_records(source, way):
    got, _ = _take(source, 8, shuffle=False, drop_remainder=True, **way)
    assert got == [list(range(k, k + 5)) for k in (0, 5, 10, 15)] * 2


@WAYS
def test_only_the_wanted_clips_are_read(source, way):
    ids = ["c021", "c002", "c003", "c009"]
    some = pipeline.Source(source.folder, source.rows, source.classes, False, ids)
    got, steps = _take(some, 2, batch_size=3, shuffle=False, **way)
    assert (got, steps) == ([[2, 3, 9], [21]], 2)
    (source.folder / "shard-00001.tfrecord").unlink()  # none of them lies there
    assert _take(some, 2, batch_size=3, shuffle=False, **way)[0] == got


@WAYS
def test_batches_are_one_pass_with_ids_and_can_be_iterated_again(source, way):
    dataset = pipeline.batches(source, 10, **way)
    for _ in range(2):
        got = [(i["frames"].shape[0], ids.numpy().tolist()) for i, _, ids in dataset]
        assert [n for n, _ in got] == [10, 10, 3]
        assert sum((ids for _, ids in got), []) == [f"c{k:03d}".encode() for k in range(23)]
    assert len(list(pipeline.batches(source, 10, drop_remainder=True, **way))) == 2


def test_static_shapes_where_the_remainder_is_dropped(source):
    dataset, _ = pipeline.train_batches(source, 5, shuffle=True, drop_remainder=True)
    inputs, labels = dataset.element_spec
    assert tuple(inputs["frames"].shape) == (5, T, 2) and tuple(labels.shape) == (5, 3)


def test_what_fits_in_memory_is_read_once(source):
    dataset, steps = pipeline.train_batches(source, 5, shuffle=True, drop_remainder=False, cache_mb=1)
    for shard in source.folder.glob("*.tfrecord"):
        shard.unlink()
    assert len(list(dataset.take(3 * steps))) == 3 * steps
    assert shards.read_manifest(source.folder).complete


@pytest.mark.parametrize("seed", [0, 1])
def test_the_published_generator_is_reproduced_exactly(tmp_path, shared, seed):
    golden = np.load(shared(f"golden/attb_generate_batch_s{seed}.npz"), allow_pickle=False)
    samples = [golden[f"sample_{k}"] for k in range(7)]
    source = _records(tmp_path, samples, golden["y"].argmax(1)[:, None].tolist(), list("abcdefg"))
    source = pipeline.Source(
        tmp_path, [Feature("frames", (int(golden["expected_frames"]), 3))], source.classes
    )
    dataset, steps = pipeline.train_batches(source, 2, shuffle=False, drop_remainder=True)
    assert steps == 3
    for k, (inputs, labels) in enumerate(dataset.take(5)):
        np.testing.assert_array_equal(inputs["frames"], golden["batches_x"][k])
        np.testing.assert_array_equal(labels, golden["batches_y"][k])


def test_pictures_stay_uint8_and_half_floats_half(tmp_path):
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (n, 4, 5, 3), "uint8") for n in (2, 5)]
    source = _records(tmp_path / "p", pictures, [[0], [1]], ["a", "b"], dtype="uint8")
    inputs, _, _ = next(iter(pipeline.batches(source, 2)))
    assert inputs["frames"].dtype == tf.uint8 and inputs["frames"].shape == (2, T, 4, 5, 3)
    np.testing.assert_array_equal(inputs["frames"][1], pictures[1][:T])
    halves = [rng.normal(size=(n, 2)).astype("float16") for n in (2, 5)]
    source = _records(tmp_path / "h", halves, [[0, 1], [1]], ["a", "b"], dtype="float16")
    inputs, labels = next(iter(pipeline.train_batches(source, 2, shuffle=False, drop_remainder=True)[0]))
    assert inputs["frames"].dtype == tf.float16 and labels.numpy().tolist() == [[1, 1], [0, 1]]


def test_classes_are_matched_by_name_with_those_of_the_model(source):
    other = pipeline.Source(source.folder, source.rows, ["c", "x", "b", "a"], False)
    _, labels, _ = next(iter(pipeline.batches(other, 3)))
    np.testing.assert_array_equal(labels, np.eye(4)[[3, 2, 0]])
    with pytest.raises(ValueError, match="clip 'c002': unknown class 'c'"):
        pipeline.batches(pipeline.Source(source.folder, source.rows, ["a", "b"], False), 3)


def test_what_the_records_do_not_have_is_named_before_the_first_step(source):
    def opened(rows=source.rows, ids=None, **arguments):
        arguments = {"shuffle": True, "drop_remainder": True} | arguments
        return pipeline.train_batches(
            pipeline.Source(source.folder, rows, source.classes, False, ids), 5, **arguments
        )

    for arguments, message in [
        ({"rows": [Feature("sound", (T, 2))]}, "unknown stream 'sound'"),
        ({"rows": [Feature("frames", (T, 3))]}, r"frames are float32 \(2,\); expected float32 \(3,\)"),
        ({"rows": [Feature("frames", (T, 2), "float16")]}, "expected float16"),
        ({"ids": ["c001", "gone"]}, "has no record of 1 clips, 'gone' the first"),
        ({"ids": []}, "no clip to read"),
        ({"ids": ["c001"]}, "1 clips make no batch of 5; lower train.batch_size"),
    ]:
        with pytest.raises(ValueError, match=message):
            opened(**arguments)


def test_labels_that_are_no_class_name_the_clip(source):
    path = source.folder / "manifest.json"
    tree = json.loads(path.read_text())
    record = tree["shards"][0]["records"][2]
    for labels, message in [
        ([3], r"clip 'c002' has labels \[3\]; expected 0..2"),
        ([0, 1], "clip 'c002' has 2 labels; expected one"),
        ([], "clip 'c002' has no label"),
    ]:
        record["labels"] = labels
        path.write_text(json.dumps(tree))
        with pytest.raises(ValueError, match=message):
            pipeline.train_batches(source, 5, shuffle=True, drop_remainder=True)


def test_damaged_shards_are_value_errors_that_name_the_file(source):
    shard = source.folder / "shard-00002.tfrecord"
    good = shard.read_bytes()
    shard.write_bytes(good[:-7])
    for way in (IN_MEMORY, FROM_DISK):
        with pytest.raises(
            ValueError, match=r"shard-00002.tfrecord: .* bytes, expected .* start the command"
        ):
            pipeline.batches(source, 5, **way)
    shard.write_bytes(good[:40] + bytes([good[40] ^ 1]) + good[41:])
    with pytest.raises(ValueError, match="shard-00002.tfrecord: damaged"):
        pipeline.batches(source, 5, **IN_MEMORY)
    streamed = pipeline.batches(source, 5, **FROM_DISK)  # damage shows on the way only
    with pytest.raises(ValueError, match="shard-00002.tfrecord: damaged"), pipeline.readable(source.folder):
        list(streamed)
    with pytest.raises(ValueError, match="shard-00002.tfrecord: damaged"):
        pipeline.feature_statistics(source)
    shard.unlink()
    with pytest.raises(ValueError, match="shard-00002.tfrecord: missing"), pipeline.readable(source.folder):
        list(streamed)


def test_what_cannot_be_read_though_its_checksum_is_right_names_the_folder(source):
    error = tf.errors.DataLossError(None, None, "bad disk\nand a long graph")
    with pytest.raises(ValueError) as raised, pipeline.readable(source.folder):
        raise error
    assert str(raised.value) == f"{source.folder}: cannot be read (bad disk)"


def test_a_folder_that_is_not_finished_says_how_to_go_on(source):
    (source.folder / "manifest.json").write_text(
        json.dumps(json.loads((source.folder / "manifest.json").read_text()) | {"complete": False})
    )
    with pytest.raises(
        ValueError, match="6 of 6 shards are extracted; start the same command again to go on"
    ):
        pipeline.batches(source, 5)


def test_mean_frames_is_the_floor_of_the_mean(source):
    counts = [1 + k % 5 for k in range(23)]
    assert pipeline.mean_frames(shards.read_manifest(source.folder)) == int(np.mean(counts))


def test_statistics_are_over_real_frames_and_do_not_cancel(tmp_path):
    rng = np.random.default_rng(0)
    samples = [
        (1e4 + rng.normal(size=(n, 3)) * [0, 0.1, 10]).astype("float32") for n in (1, 2, 3, 5, 2, 4, 1)
    ]
    source = _records(tmp_path, samples, [[k % 2] for k in range(7)], ["a", "b"])
    real = np.concatenate([s[:T] for s in samples]).astype("float64")
    mean, variance = pipeline.feature_statistics(source, batch_size=2)
    assert mean.dtype == variance.dtype == np.float32 and mean.shape == variance.shape == (3,)
    np.testing.assert_allclose(mean, real.mean(0), rtol=1e-6)
    np.testing.assert_allclose(variance, real.var(0), rtol=1e-5, atol=1e-12)
    some = pipeline.Source(source.folder, source.rows, source.classes, False, ["c001", "c003"])
    np.testing.assert_allclose(
        pipeline.feature_statistics(some)[0], np.concatenate([samples[1], samples[3][:T]]).mean(0), rtol=1e-6
    )
    with pytest.raises(ValueError, match="unknown row 'frame'"):
        pipeline.feature_statistics(source, "frame")


def test_the_shuffle_is_fair_where_the_records_fit(source):
    dataset, steps = pipeline.train_batches(source, 23, shuffle=True, drop_remainder=True)
    epochs = np.array([_clips(batch) for batch in dataset.take(60)])
    assert steps == 1 and len(set(epochs[:, 0])) > 12  # 60 draws of 23: 21 different ones on average
    assert np.abs(epochs.mean(0) - 11).max() < 4  # no place prefers early or late clips: 4 is 4.7 sigma


@pytest.mark.parametrize("make", [pipeline.batches, pipeline.train_batches])
def test_autograph_does_not_look_through_the_source(make, source, monkeypatch):
    callers, parse = [], schema.parse_batch

    def seen(*given):
        callers.append(sys._getframe(1).f_code.co_filename)  # of what AutoGraph makes: a file of its own
        return parse(*given)

    monkeypatch.setattr(schema, "parse_batch", seen)
    make(source, 2, **({"shuffle": True, "drop_remainder": True} if make is pipeline.train_batches else {}))
    assert callers == [pipeline.__file__]
