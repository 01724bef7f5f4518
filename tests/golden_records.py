"""Golden checks of the starter's readers, and of the record files that they are checked on."""

import numpy as np
import pytest
import tensorflow as tf
from golden import read

from starter import readers
from tfvc.data import inspection, records, salvage
from tfvc.layers import Dequantize
from tfvc.recipe import Feature

ATOL = 1e-6  # of video_matrix in reader_frames*, reader_segments*; the rest is exact


def videos(path, tmp_path):
    golden, meta = read(path)
    shard, reader = source(path, meta), readers.YT8MAggregatedFeatureReader(*_settings(meta))
    made = reader.prepare_serialized_examples(blobs(shard))
    same(made, golden, path, 0)
    inputs, labels, ids = next(iter(reader.dataset(str(shard), len(golden["video_ids"]))))
    np.testing.assert_array_equal(
        Dequantize()([inputs[row.name] for row in reader.rows]), made["video_matrix"]
    )
    np.testing.assert_array_equal(labels, golden["labels"])
    np.testing.assert_array_equal(ids, golden["video_ids"])


def frames(path, tmp_path):
    _frame_level(path, False)


def segments(path, tmp_path):
    _frame_level(path, "label_weights" in read(path)[0])


def _frame_level(path, rated):
    golden, meta = read(path)
    shard = source(path, meta)
    if "feature_names" not in meta:  # reader_segments_*_as_video says nothing; what it has is independent
        shapes = _shapes([_streams(tf.train.SequenceExample.FromString(blob)) for blob in blobs(shard)])
        meta |= {"num_classes": golden["labels"].shape[1], "max_frames": 300}
        meta |= {"feature_names": list(shapes), "feature_sizes": [width for width, _ in shapes.values()]}
    rest = (meta["max_frames"], rated, meta.get("segment_size", 5))
    reader = readers.YT8MFrameFeatureReader(*_settings(meta), *rest)
    good = []
    for blob, rows in zip(blobs(shard), golden["rows_per_record"], strict=True):
        if rows >= 0:
            good.append(blob)
            assert len(reader.prepare_serialized_examples(blob)["num_frames"]) == rows
        elif (
            set(meta["feature_names"]) <= inspection.streams(blob).keys()
        ):  # ours reads one that lacks a stream
            with pytest.raises(tf.errors.InvalidArgumentError):
                reader.prepare_serialized_examples(blob)
    assert len(golden["rows_per_record"]) - len(good) == len(meta["errors"])
    made = reader.prepare_serialized_examples(good)
    same(made, golden, path, ATOL)
    if len(good) < len(golden["rows_per_record"]):
        return
    inputs, labels, ids, *weights = next(iter(reader.dataset(str(shard), len(golden["video_ids"]))))
    names = [row.name for row in reader.rows]
    matrix = Dequantize()([inputs[n] for n in names], lengths=[inputs[f"{n}_length"] for n in names])
    np.testing.assert_allclose(matrix, made["video_matrix"], atol=ATOL, rtol=0)
    np.testing.assert_array_equal(labels, golden["labels"])
    np.testing.assert_array_equal(ids, golden["video_ids"])
    assert len(weights) == rated
    for weight in weights:
        np.testing.assert_array_equal(weight, golden["label_weights"])


def same(made, golden, path, atol):
    """Every array of the file and its dtype; the matrix within `atol`."""
    wanted = {name: value for name, value in golden.items() if name != "rows_per_record"}
    assert {"video_ids", "labels", "num_frames"} <= set(wanted) <= set(made), path.name
    for name, value in wanted.items():
        ours, what = made[name].numpy(), f"{path.name}: {name}"
        assert ours.shape == value.shape, what
        if name == "video_ids":
            assert ours.tolist() == value.tolist(), what
            continue
        assert ours.dtype == value.dtype, f"{what}: {ours.dtype}, the file has {value.dtype}"
        if name == "video_matrix":
            np.testing.assert_allclose(ours, value, atol=atol, rtol=0, err_msg=what)
        else:
            np.testing.assert_array_equal(ours, value, err_msg=what)


def record_file(path, tmp_path):
    """Records of the original's form, whole, and read by ours as a protocol buffer says they are."""
    faults, offsets = salvage.survey(str(path))
    found = [salvage.record(str(path), offset) for offset in offsets]
    assert not faults and found == blobs(path)
    examples = [tf.train.SequenceExample.FromString(blob) for blob in found]
    contexts = [example.context.feature for example in examples]
    expected = [context["id"].bytes_list.value[0] for context in contexts]
    classes = 1 + max(max(context["labels"].int64_list.value, default=0) for context in contexts)
    lists = [_streams(example) for example in examples]
    longest = max(len(stream) for streams in lists for stream in streams.values())
    rows = [
        Feature(name, (longest, width), "uint8", True) if frames else Feature(name, (width,))
        for name, (width, frames) in _shapes(lists).items()
    ]
    got = next(iter(records.batches(records.Records(str(path), rows, classes), 2 * len(found))))
    inputs, labels, ids = got
    assert ids.numpy().tolist() == expected
    for k, context in enumerate(contexts):
        assert np.flatnonzero(labels[k]).tolist() == sorted(set(context["labels"].int64_list.value))
        for row in rows:
            ours = inputs[row.name][k].numpy()
            if len(row.shape) == 1:
                np.testing.assert_array_equal(ours, np.float32(lists[k][row.name]))
                continue
            count = len(lists[k][row.name])
            assert inputs[f"{row.name}_length"][k] == count and not ours[count:].any()
            assert ours[:count].tobytes() == b"".join(lists[k][row.name])
    for companion in path.parent.glob(f"reader_{path.stem}*.npz"):
        assert list(dict.fromkeys(read(companion)[0]["video_ids"].tolist())) == expected, companion.name


def _streams(example):
    """Name -> the frames (bytes), or the numbers of a vector."""
    lists = example.feature_lists.feature_list
    if lists:
        return {name: [frame.bytes_list.value[0] for frame in lists[name].feature] for name in sorted(lists)}
    context = example.context.feature
    return {n: list(context[n].float_list.value) for n in sorted(context) if n.startswith("mean_")}


def _shapes(lists):
    """Name -> (width, whether it is of frames), by the first clip that has any."""
    shapes = {}
    for streams in lists:
        for name, values in streams.items():
            frames = bool(values) and isinstance(values[0], bytes)
            if values:
                shapes.setdefault(name, (len(values[0]) if frames else len(values), frames))
    return shapes


def _settings(meta):
    return meta["num_classes"], meta["feature_sizes"], meta["feature_names"]


def source(path, meta):
    """The record file that a reader_* file is of."""
    name = meta.get("tfrecord") or f"{path.stem.removeprefix('reader_').removesuffix('_as_video')}.tfrecord"
    return path.with_name(name)


def blobs(path):
    return list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())


CHECKS = {
    "reader_videos_": videos,
    "reader_frames_": frames,
    "reader_segments_": segments,
    "frames_": record_file,
    "segments_": record_file,
    "videos_": record_file,
}
