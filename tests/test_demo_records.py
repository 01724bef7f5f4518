"""tfvc/data/demo_records.py: what the made-up records claim, proven with a plain baseline."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from sklearn.linear_model import Ridge
from sklearn.metrics import average_precision_score

from tfvc.data import demo_records, schema, sources


def read(level, part):
    """Inputs, labels, ids and lengths of a part; frames padded to the longest."""
    patterns, classes = demo_records.ensure(level)
    shards = sources.files(patterns[part])
    assert len(shards) == demo_records.PARTS[part][1]
    records = [record for file in shards for record in tf.data.TFRecordDataset(file).as_numpy_iterator()]
    parsed = schema.parse_batch(tf.constant(records), demo_records.ROWS[level], classes, True)
    return tf.nest.map_structure(lambda value: value.numpy(), parsed)


def test_the_parts_are_as_large_as_said_and_share_no_video():
    found = {part: read("frame", part) for part in demo_records.PARTS}
    names = np.concatenate([ids for _, _, ids, _ in found.values()])
    assert len(names) == len(set(names)) == sum(videos for videos, _ in demo_records.PARTS.values())
    for part, (inputs, labels, _, lengths) in found.items():
        assert len(labels) == demo_records.PARTS[part][0]
        assert inputs["rgb"].dtype == np.uint8 and inputs["rgb"].shape[2] == 1024
        assert inputs["audio"].shape[2] == 128
        seen, heard = lengths["rgb"], lengths["audio"]
        assert (seen >= 6).all() and (seen <= 12).all() and set(heard[heard != seen]) == {0}
        assert 0 < (heard == 0).sum() < len(labels) / 5
        assert set(labels.sum(1)) == {1, 2, 4} and labels.any(0).all()


def test_the_same_seed_gives_the_same_bytes_and_another_one_other_videos(tmp_path):
    def drawn(root, seed):
        patterns, _ = demo_records.ensure("video", seed, root)
        return [Path(file).read_bytes() for part in patterns for file in sources.files(patterns[part])]

    first = drawn(tmp_path / "a", 0)
    assert first == drawn(tmp_path / "b", 0) != drawn(tmp_path / "a", 1)
    assert first == drawn(tmp_path / "a", 0)
    assert len(list((tmp_path / "a").glob("yt8m-video-s0-*"))) == 1  # drawn once


def test_the_vectors_are_the_means_of_the_same_videos_frames():
    frames, labels, ids, lengths = read("frame", "test")
    means, same_labels, same_ids, _ = read("video", "test")
    assert (ids == same_ids).all() and (labels == same_labels).all()
    for stream in ("rgb", "audio"):
        number = np.maximum(lengths[stream], 1)[:, None]
        dequantised = frames[stream] * (4.0 / 255) + 4 / 512 - 2
        dequantised[np.arange(dequantised.shape[1]) >= lengths[stream][:, None]] = 0
        np.testing.assert_allclose(means[f"mean_{stream}"], dequantised.sum(1) / number, atol=1e-3)


def test_neither_stream_suffices_and_both_together_do():
    """Mean average precision of a ridge regression on the vectors, each of unit length."""
    (train, labels, _, _), (test, wanted, _, _) = read("video", "train"), read("video", "test")

    def score(*streams):
        x, y = (np.hstack([part[s] for s in streams]) for part in (train, test))
        x, y = (v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-6) for v in (x, y))
        return average_precision_score(wanted, Ridge(0.1).fit(x, labels).predict(y), average="macro")

    sight, sound, both = score("mean_rgb"), score("mean_audio"), score("mean_rgb", "mean_audio")
    assert max(sight, sound) < 0.65 and both > 0.8, (sight, sound, both)


def test_another_level_is_refused():
    with pytest.raises(ValueError, match="unknown level of the demo records 'frames' .did you mean 'frame'"):
        demo_records.ensure("frames")
