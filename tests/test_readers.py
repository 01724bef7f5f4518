"""starter/readers.py: the original's dictionaries, and what the original has no answer for."""

import json
import shutil

import golden_records
import numpy as np
import pytest
import tensorflow as tf
from golden import read

from starter import readers
from tfvc.data import records, schema
from tfvc.recipe import Feature

ROWS = [Feature("rgb", (None, 3), "uint8"), Feature("audio", (None, 2), "uint8")]
STEP, LOW = 4 / 255, 4 / 512 - 2


def frames(count, width, begin=0):
    return (begin + np.arange(count * width, dtype="uint8")).reshape(count, width)


def record(name="a", labels=(1,), segments=(), packed=False, **streams):
    return schema.serialize(name, list(labels), streams, ROWS, packed=packed, segments=segments)


def frame_reader(max_frames=4, **options):
    return readers.YT8MFrameFeatureReader(5, [3, 2], ["rgb", "audio"], max_frames, **options)


def write(path, blobs):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for blob in blobs:
            writer.write(blob)
    return str(path)


@pytest.mark.parametrize(
    "name", ["reader_frames_s0_both_max7", "reader_segments_s0", "reader_videos_s0_both"]
)
def test_a_changed_number_fails_the_check(shared, name, tmp_path):
    path = tmp_path / f"{name}.npz"
    golden, meta = read(shared(f"golden/{name}.npz"))
    check = next(c for prefix, c in golden_records.CHECKS.items() if name.startswith(prefix))
    shutil.copy(golden_records.source(shared(f"golden/{name}.npz"), meta), tmp_path)
    np.savez(path, meta=json.dumps(meta), **golden)
    check(path, tmp_path)
    for array in sorted(golden):
        wrong = {k: v.copy() for k, v in golden.items()}
        first = (0,) * wrong[array].ndim
        wrong[array][first] = {"S": b"other", "b": not wrong[array][first]}.get(
            wrong[array].dtype.kind, wrong[array][first] + np.float32(0.01) if array == "video_matrix" else 7
        )
        np.savez(path, meta=json.dumps(meta), **wrong)
        with pytest.raises(AssertionError):
            check(path, tmp_path)


def test_a_changed_record_fails_the_check_of_its_file(shared, tmp_path):
    source = shared("golden/frames_s0.tfrecord")
    shutil.copy(shared("golden/reader_frames_s0_rgb_max300.npz"), tmp_path)
    write(tmp_path / source.name, golden_records.blobs(source)[:-1])
    with pytest.raises(AssertionError, match="reader_frames_s0_rgb_max300"):
        golden_records.record_file(tmp_path / source.name, tmp_path)
    data = bytearray(source.read_bytes())
    data[40] ^= 1
    (tmp_path / source.name).write_bytes(data)
    with pytest.raises((AssertionError, tf.errors.DataLossError)):
        golden_records.record_file(tmp_path / source.name, tmp_path)


def test_defaults_are_the_originals():
    video, frame = readers.YT8MAggregatedFeatureReader(), readers.YT8MFrameFeatureReader()
    assert video.rows == [Feature("mean_inc3", (1024,), "float32")] and video.num_classes == 3862
    assert frame.rows == [Feature("inc3", (300, 1024), "uint8", True)] and frame.num_classes == 3862
    assert (frame.max_frames, frame.segment_labels, frame.segment_size) == (300, False, 5)
    assert (video.feature_names, frame.feature_sizes) == (["mean_inc3"], [1024])
    with pytest.raises(ValueError, match="a size for each"):
        readers.YT8MFrameFeatureReader(5, [3, 2], ["rgb"])


def test_many_records_one_and_any_graph_give_the_same():
    blobs = [record("a", rgb=frames(2, 3), audio=frames(2, 2)), record("b", (), rgb=frames(6, 3))]
    reader = frame_reader()
    made = reader.prepare_serialized_examples(blobs)
    alone = [reader.prepare_serialized_examples(blob) for blob in blobs]
    mapped = list(tf.data.Dataset.from_tensor_slices(blobs).map(reader.prepare_serialized_examples))
    for name, value in made.items():
        for parts in (alone, mapped):
            np.testing.assert_array_equal(tf.concat([part[name] for part in parts], 0), value)
    matrix = made["video_matrix"].numpy()
    assert made["num_frames"].numpy().tolist() == [2, 4] and matrix.dtype == np.float32
    np.testing.assert_allclose(matrix[0, :2, :3], frames(2, 3) * STEP + LOW, atol=1e-6)
    np.testing.assert_allclose(matrix[1, :, :3], frames(6, 3)[:4] * STEP + LOW, atol=1e-6)
    assert not matrix[0, 2:].any()


def test_a_missing_stream_is_zeros_where_the_original_raises():
    blobs = [record("a", rgb=frames(3, 3)), record("b", audio=frames(2, 2)), record("c")]
    blobs.append(record("d", rgb=frames(1, 3), audio=frames(4, 2)))
    made = frame_reader().prepare_serialized_examples(blobs)
    assert made["num_frames"].numpy().tolist() == [3, 2, 0, 1]  # of the first listed stream with frames
    matrix = made["video_matrix"].numpy()
    assert not matrix[0, :, 3:].any() and not matrix[1, :, :3].any() and not matrix[2].any()
    assert matrix[0, :3, :3].all() and matrix[1, :2, 3:].all()
    assert matrix[3, 1:, 3:].all() and not matrix[3, 1:, :3].any()  # each ends by its own length
    video = readers.YT8MAggregatedFeatureReader(5, [2, 1], ["mean_rgb", "mean_audio"])
    blob = schema.serialize("v", [], {"mean_rgb": np.float32([1, 2])}, video.rows)
    made = video.prepare_serialized_examples(blob)
    assert made["video_matrix"].numpy().tolist() == [[1, 2, 0]]
    assert not made["labels"].numpy().any() and made["num_frames"].numpy().tolist() == [1.0]


def test_joined_frames_other_ids_and_another_range():
    plain, packed = (record("a", rgb=frames(3, 3), audio=frames(3, 2), packed=p) for p in (False, True))
    reader = frame_reader()
    one, other = (reader.prepare_serialized_examples(blob) for blob in (plain, packed))
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])
    example = tf.train.SequenceExample.FromString(plain)
    example.context.feature["video_id"].CopyFrom(example.context.feature["id"])
    del example.context.feature["id"]
    named = reader.prepare_serialized_examples(example.SerializeToString())
    assert named["video_ids"].numpy().tolist() == [b"a"]
    wide = reader.prepare_serialized_examples(plain, 10, 0)["video_matrix"].numpy()
    np.testing.assert_allclose(wide[0, :3, :3], frames(3, 3) * 10 / 255 + 10 / 512, atol=1e-6)
    with pytest.raises(ValueError, match="max_value=0"):
        reader.prepare_serialized_examples(plain, 0, 0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"labels": [5]}, r"indices\[0\] = \[0, 5\] does not index"),
        ({"segments": [(6, 1, 1.0)]}, "a segment outside the frames 0 to 9"),
        ({"segments": [(0, 5, 1.0)]}, "a label is no class"),
    ],
)
def test_what_the_original_refuses_is_refused(options, words):
    reader = frame_reader(10, segment_labels="segments" in options)
    with pytest.raises(tf.errors.InvalidArgumentError, match=words):
        reader.prepare_serialized_examples(record(rgb=frames(10, 3), **options))


def test_segments_at_the_end_are_filled_up_with_zeros_and_count_five():
    reader = frame_reader(10, segment_labels=True)
    blobs = [record("a", rgb=frames(7, 3), segments=[(5, 2, 1.0), (0, 1, 0.0), (5, 3, 0.0)]), record("b")]
    made = reader.prepare_serialized_examples(blobs)
    assert made["video_ids"].numpy().tolist() == [b"a", b"a"]
    assert made["num_frames"].numpy().tolist() == [5, 5]
    matrix = made["video_matrix"].numpy()
    np.testing.assert_allclose(matrix[0, :2, :3], frames(7, 3)[5:] * STEP + LOW, atol=1e-6)
    assert not matrix[0, 2:].any() and not matrix[:, :, 3:].any()
    assert made["labels"].numpy().tolist() == [[0, 0, 1, 0, 0], [0] * 5]
    assert made["label_weights"].numpy().tolist() == [[0, 0, 1, 1, 0], [0, 1, 0, 0, 0]]


def test_the_fast_path_takes_the_options_of_batches(tmp_path):
    path = write(tmp_path / "a", [record(str(k), rgb=frames(k, 3), audio=frames(k, 2)) for k in range(6)])
    with records.readable():
        inputs, labels, ids = next(iter(frame_reader().dataset(path, 6)))
        again = [
            i.numpy().tolist() for *_, i in frame_reader().dataset(path, 5, epochs=2, drop_remainder=True)
        ]
    assert inputs["rgb"].dtype == tf.uint8 and inputs["rgb"].shape == (6, 4, 3)
    assert inputs["audio_length"].numpy().tolist() == [0, 1, 2, 3, 4, 4]
    assert ids.numpy().tolist() == [b"0", b"1", b"2", b"3", b"4", b"5"] and labels.numpy()[:, 1].all()
    assert again == [[b"0", b"1", b"2", b"3", b"4"], [b"5", b"0", b"1", b"2", b"3"]]
