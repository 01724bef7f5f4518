"""One record: what is written is what is parsed, cut or padded to T, in the stored dtype."""

import json

import numpy as np
import pytest
import tensorflow as tf

from tfvc.data import schema
from tfvc.recipe import Feature

ROWS = [
    Feature("frames", (4, 3)),
    Feature("sound", (2, 5), "float16"),
    Feature("pictures", (3, 2, 4, 3), "uint8"),
]


def _features(rng, frames):
    return {
        "frames": rng.normal(size=(frames, 3)).astype("float32"),
        "sound": rng.normal(size=(frames, 5)).astype("float16"),
        "pictures": rng.integers(0, 256, (frames, 2, 4, 3), "uint8"),
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
        ({"frame": good}, "c: stream 'frame'; expected one of: frames, sound, pictures"),
    ]:
        with pytest.raises(ValueError, match=message):
            schema.serialize("c", [0], features, ROWS)
    with pytest.raises(ValueError, match="dtype 'int8'; expected one of: float32, float16, uint8"):
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
