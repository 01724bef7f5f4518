"""One record: what is written is what is parsed, cut or padded to T, in the stored dtype."""

import json

import numpy as np
import pytest
import tensorflow as tf

from tfvc.data import inspection, schema
from tfvc.recipe import Feature

ROWS = [
    Feature("frames", (4, 3)),
    Feature("sound", (2, 5), "float16"),
    Feature("pictures", (3, 2, 4, 3), "uint8"),
    Feature("words", (5, 1), "int32"),
]


def _features(rng, frames):
    return {
        "frames": rng.normal(size=(frames, 3)).astype("float32"),
        "sound": rng.normal(size=(frames, 5)).astype("float16"),
        "pictures": rng.integers(0, 256, (frames, 2, 4, 3), "uint8"),
        "words": rng.integers(1, 2**31, (frames, 1), "int32"),
    }


def _padded(value, t):
    out = np.zeros((t, *value.shape[1:]), value.dtype)
    out[: len(value)] = value[:t]
    return out


@pytest.mark.parametrize("graph", [False, True])
def test_batches_come_back_exact_cut_and_zero_padded_in_the_stored_dtype(graph):
    rng = np.random.default_rng(0)
    clips = [_features(rng, n) for n in (1, 4, 9)]
    serialized = tf.constant([schema.serialize(f"ü/{k}", [k], f, ROWS) for k, f in enumerate(clips)])

    def parse(batch):
        return schema.parse_batch(batch, ROWS, 3, False)

    inputs, labels, ids, lengths = (tf.function(parse) if graph else parse)(serialized)
    for row in ROWS:
        expected = np.stack([_padded(f[row.name], row.shape[0]) for f in clips])
        assert inputs[row.name].dtype == row.dtype
        np.testing.assert_array_equal(inputs[row.name], expected)
        np.testing.assert_array_equal(lengths[row.name], np.minimum([1, 4, 9], row.shape[0]))
    np.testing.assert_array_equal(labels, np.eye(3, dtype="float32"))
    assert [i.decode() for i in ids.numpy()] == ["ü/0", "ü/1", "ü/2"]


def test_shapes_are_static_where_the_batch_is():
    signature = tf.TensorSpec([2], tf.string)
    parse = tf.function(lambda b: schema.parse_batch(b, ROWS, 7, True)).get_concrete_function(signature)
    inputs, labels, ids, lengths = parse.structured_outputs
    assert {k: tuple(v.shape) for k, v in inputs.items()} == {r.name: (2, *r.shape) for r in ROWS}
    assert (
        tuple(labels.shape) == (2, 7) and tuple(ids.shape) == (2,) and tuple(lengths["sound"].shape) == (2,)
    )


def test_a_missing_stream_is_zeros_of_length_zero_and_an_empty_one_too():
    value = np.ones((2, 3), "float32")
    serialized = [
        schema.serialize("a", [0], {"frames": value}, ROWS),
        schema.serialize(
            "b", [0], {"sound": np.ones((1, 5), "float16"), "frames": value[:0], "pictures": None}, ROWS
        ),
    ]
    inputs, _, _, lengths = schema.parse_batch(tf.constant(serialized), ROWS, 1, False)
    assert {k: v.numpy().tolist() for k, v in lengths.items()} == {
        "frames": [2, 0],
        "sound": [0, 1],
        "pictures": [0, 0],
        "words": [0, 0],
    }
    assert (
        not np.any(inputs["frames"][1]) and not np.any(inputs["pictures"]) and not np.any(inputs["sound"][0])
    )


def test_without_t_the_longest_of_the_batch_counts():
    rows = [Feature("frames", (None, 3))]
    values = [np.full((n, 3), n, "float32") for n in (2, 5)]
    serialized = [schema.serialize(str(len(v)), [], {"frames": v}, rows) for v in values]
    inputs, labels, _, lengths = schema.parse_batch(tf.constant(serialized), rows, 2, False)
    assert inputs["frames"].shape == (2, 5, 3) and lengths["frames"].numpy().tolist() == [2, 5]
    assert not np.any(inputs["frames"][0, 2:]) and not np.any(labels)  # no label: a row of zeros


def test_several_labels_are_multi_hot_and_need_a_multi_label_parse():
    rows = ROWS[:1]
    serialized = tf.constant([schema.serialize("a", [2, 0], {}, rows), schema.serialize("b", [], {}, rows)])
    labels = schema.parse_batch(serialized, rows, 3, True)[1]
    np.testing.assert_array_equal(labels, [[1, 0, 1], [0, 0, 0]])
    with pytest.raises(tf.errors.InvalidArgumentError, match="labels"):
        schema.parse_batch(serialized, rows, 3, False)


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_label_that_is_no_class_is_an_error(multi_label):
    serialized = tf.constant([schema.serialize("a", [3], {}, ROWS)])
    with pytest.raises(tf.errors.InvalidArgumentError):
        schema.parse_batch(serialized, ROWS, 3, multi_label)


def test_a_frame_of_another_size_is_an_error_and_never_cut_in_silence():
    wide = schema.serialize("a", [0], {"frames": np.ones((2, 4), "float32")}, [Feature("frames", (None, 4))])
    for width in (3, 5):
        with pytest.raises(tf.errors.InvalidArgumentError, match="not .* bytes"):
            schema.parse_batch(tf.constant([wide]), [Feature("frames", (4, width))], 1, False)
    with pytest.raises(tf.errors.InvalidArgumentError):
        schema.parse_batch(tf.constant([b"no record"]), ROWS, 1, False)


def test_what_does_not_fit_its_row_is_not_written():
    good = np.ones((2, 3), "float32")
    for features, message in [
        ({"frames": good.astype("float64")}, r"c: frames is float64 \(2, 3\); expected float32 \(N, 3\)"),
        ({"frames": good[:, :2]}, r"c: frames is float32 \(2, 2\)"),
        ({"frames": np.float32(1)}, "c: frames is float32"),
        ({"frame": good}, "c: stream 'frame'; expected one of: frames, sound, pictures, words"),
    ]:
        with pytest.raises(ValueError, match=message):
            schema.serialize("c", [0], features, ROWS)
    with pytest.raises(ValueError, match="dtype 'int8'; expected one of: float32, float16, uint8, int32"):
        schema.serialize("c", [0], {"frames": good.astype("int8")}, [Feature("frames", (None, 3), "int8")])


def test_the_same_clip_is_the_same_bytes_and_a_plain_sequence_example():
    features = _features(np.random.default_rng(1), 2)
    backwards = dict(reversed(features.items()))
    serialized = schema.serialize("a", [1], features, ROWS)
    assert serialized == schema.serialize("a", [1], backwards, ROWS)
    strided = features | {"frames": np.asfortranarray(features["frames"])}
    assert serialized == schema.serialize("a", [1], strided, ROWS)
    example = tf.train.SequenceExample.FromString(serialized)
    frame = example.feature_lists.feature_list["frames"].feature[1].bytes_list.value[0]
    np.testing.assert_array_equal(np.frombuffer(frame, "<f4"), features["frames"][1])


def test_cut_and_padded_samples_are_the_published_generators(shared):
    for seed in (0, 1):
        golden = np.load(shared(f"golden/attb_generate_batch_s{seed}.npz"), allow_pickle=False)
        assert "zero padding at END" in json.loads(str(golden["meta"]))["note"]
        rows = [Feature("frames", (int(golden["expected_frames"]), 3))]
        samples = [golden[f"sample_{k}"] for k in range(7)]
        serialized = [schema.serialize(str(k), [k], {"frames": s}, rows) for k, s in enumerate(samples)]
        inputs, labels, _, _ = schema.parse_batch(tf.constant(serialized[:2]), rows, 7, False)
        np.testing.assert_array_equal(inputs["frames"], golden["batches_x"][0])
        np.testing.assert_array_equal(labels, golden["y"][:2])


# --- YouTube-8M's forms -------------------------------------------------------------------------------------

CLIP = [Feature("mean", (3,)), Feature("rgb", (4, 2), "uint8", True)]


def test_vectors_are_float_lists_and_a_context_alone_is_an_example():
    value = np.float32([1.5, -2, 0])
    serialized = schema.serialize("a", [1], {"mean": value}, CLIP[:1])
    example = tf.train.Example.FromString(serialized)
    assert sorted(example.features.feature) == ["id", "labels", "mean"]
    assert example.features.feature["mean"].float_list.value == value.tolist()
    assert example.SerializeToString(deterministic=True) == serialized
    both = schema.serialize("b", [], {"mean": value, "rgb": np.ones((2, 2), "uint8")}, CLIP)
    for rows in (CLIP[:1], CLIP, CLIP[::-1]):
        inputs, _, ids, lengths = schema.parse_batch(tf.constant([serialized, both]), rows, 2, True)
        assert set(inputs) == {row.name for row in rows} and ids.numpy().tolist() == [b"a", b"b"]
        np.testing.assert_array_equal(inputs["mean"], [value, value])
        assert {k: v.numpy().tolist() for k, v in lengths.items()} == (
            {"rgb": [0, 2]} if len(rows) > 1 else {}
        )
    with pytest.raises(ValueError, match=r"c: mean is float32 \(2,\); expected float32 \(3\)"):
        schema.serialize("c", [], {"mean": value[:2]}, CLIP)
    with pytest.raises(ValueError, match="dtype 'float16'; a row of rank 1 is float32"):
        schema.parse_batch(tf.constant([serialized]), [Feature("mean", (3,), "float16")], 2, True)


@pytest.mark.parametrize("t", [None, 4])
def test_one_string_a_stream_is_read_as_a_string_a_frame(t):
    rng = np.random.default_rng(2)
    rows = [Feature(row.name, (t, *row.shape[1:]), row.dtype) for row in ROWS]
    clips = [_features(rng, n) for n in (2, 5, 0, 3)]

    def parse(*packed):
        blobs = [
            schema.serialize(str(k), [], f, rows, packed=p)
            for k, (f, p) in enumerate(zip(clips, packed, strict=True))
        ]
        return schema.parse_batch(tf.constant(blobs), rows, 2, True)

    inputs, _, _, lengths = parse(False, False, False, False)
    for packed in ([True] * 4, [True, False, True, False], [False, True, False, False]):
        others, _, _, counts = parse(*packed)
        for row in rows:
            np.testing.assert_array_equal(others[row.name], inputs[row.name])
            np.testing.assert_array_equal(counts[row.name], lengths[row.name])
    wrong = schema.serialize(
        "x", [], {"rgb": np.ones((1, 3), "uint8")}, [Feature("rgb", (4, 3), "uint8")], packed=True
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match="not 2 bytes"):
        schema.parse_batch(tf.constant([wrong]), CLIP[1:], 2, True)


def test_labels_are_not_looked_at_without_classes():
    serialized = schema.serialize("a", [99], {"rgb": np.ones((1, 2), "uint8")}, CLIP)
    inputs, labels, ids, _ = schema.parse_batch(tf.constant([serialized]), CLIP[1:], None, True)
    assert labels is None and ids.numpy().tolist() == [b"a"] and inputs["rgb"].numpy().sum() == 2


def test_segments_come_in_order_of_first_appearance_and_the_last_score_counts():
    rows = [Feature("rgb", (20, 2), "uint8", True), Feature("audio", (20, 1), "uint8", True)]
    rng = np.random.default_rng(3)
    streams = {"rgb": rng.integers(0, 256, (18, 2), "uint8"), "audio": rng.integers(0, 256, (30, 1), "uint8")}
    given = [(7, 2, 1.0), (0, 1, 0.0), (7, 0, 0.0), (15, 3, 0.5), (7, 2, 0.25), (0, 1, 1.0)]
    blobs = [
        schema.serialize("a", [], streams, rows, segments=given),
        schema.serialize("b", [], streams, rows),
        schema.serialize("c", [], {"audio": streams["audio"]}, rows, packed=True, segments=[(7, 3, 1.0)]),
    ]
    parse = tf.function(lambda b: schema.parse_segments(b, rows, 4))
    inputs, labels, ids, lengths, weights = parse(tf.constant(blobs))
    assert ids.numpy().tolist() == [b"a", b"a", b"a", b"c"]
    padded = {name: _padded(value, 20) for name, value in streams.items()}
    for name in ("rgb", "audio"):
        cut = [padded[name][start : start + 5] for start in (7, 0, 15, 7)]
        cut[3] = cut[3] * (name == "audio")
        np.testing.assert_array_equal(inputs[name], cut)
    assert lengths["rgb"].numpy().tolist() == [5, 5, 3, 0] and lengths["audio"].numpy().tolist() == [5] * 4
    np.testing.assert_array_equal(labels, [[0, 0, 0.25, 0], [0, 1, 0, 0], [0, 0, 0, 0.5], [0, 0, 0, 1]])
    np.testing.assert_array_equal(weights, [[1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 1]])
    assert len(schema.parse_segments(tf.constant(blobs[1:2]), rows, 4)[2]) == 0
    for bad, message in (
        ((16, 0, 1.0), "outside the frames 0 to 19"),
        ((-1, 0, 1.0), "outside"),
        ((0, 4, 1.0), "no class"),
    ):
        blob = schema.serialize("d", [], streams, rows, segments=[bad])
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            schema.parse_segments(tf.constant([blob]), rows, 4)
        assert inspection.fault(blob, rows, 4, 5).startswith("record 'd': ")


def test_what_parses_has_no_fault_and_a_record_without_an_id_has():
    whole = schema.serialize("a", [1], {"rgb": np.ones((9, 2), "uint8")}, CLIP)
    for blob in (
        whole,
        schema.serialize("b", [], {}, CLIP),
        schema.serialize("c", [0], {"mean": np.ones(3, "float32")}, CLIP),
    ):
        assert inspection.fault(blob, CLIP, 2) is None
        schema.parse_batch(tf.constant([blob]), CLIP, 2, True)
    assert inspection.streams(whole) == {"rgb": 2}
    example = tf.train.SequenceExample.FromString(whole)
    del example.context.feature["id"]
    nameless = example.SerializeToString()
    assert inspection.fault(nameless, CLIP, 2) == "a record without id or video_id; it holds: rgb"
    with pytest.raises(tf.errors.InvalidArgumentError, match="a record without an id"):
        schema.parse_batch(tf.constant([whole, nameless]), CLIP, 2, True)
    with pytest.raises(ValueError, match="no tf.train.Example or SequenceExample"):
        inspection.streams(b"\xff\xfe")
