"""Readers of YouTube-8M records: the starter code's classes over `tfvc.data`.

`prepare_serialized_examples` gives the original's dictionary, float32 and dequantised. `dataset` is the fast
way, and what the programs here train on: frames stay bytes up to the model's first layer.
"""

import numpy as np
import tensorflow as tf
from keras import ops

from starter import models
from tfvc.data import records, schema
from tfvc.layers import Dequantize


class _Reader:
    """What the two share: `rows`, the streams as `tfvc.recipe.Feature` rows, and batches from files."""

    def __init__(self, num_classes, feature_sizes, feature_names, rows):
        self.num_classes = num_classes
        self.feature_sizes = list(feature_sizes)
        self.feature_names = list(feature_names)
        self.rows = rows
        self._segment_size = 0

    def dataset(self, pattern, batch_size, **options):
        """Batches of the records of some files, with the bytes as stored.

        **Source** stands in for `prepare_reader` of readers.py and the queues around it.
        **Differs** gives what `tfvc.data.records.batches` does, not the original's dictionary; a segment at
        the end of a video counts its real frames.

        Args:
            pattern: comma-separated patterns, as `tfvc.data.records.files` takes them.
            batch_size: videos (or segments) a batch.
            **options: `shuffle seed epochs drop_remainder on_corrupt report` of `tfvc.data.records.batches`.

        Returns:
            `tf.data.Dataset` of `(inputs, labels, ids)`, for segments with label weights as a fourth.
            Iterate within `tfvc.data.records.readable()`, which names the file where reading stops.

        Raises:
            FileNotFoundError, ValueError: as `tfvc.data.records.batches`.
        """
        source = records.Records(pattern, self.rows, self.num_classes, self._segment_size)
        return records.batches(source, batch_size, **options)


class YT8MAggregatedFeatureReader(_Reader):
    """Reads video-level records: `tf.train.Example` with a float list a feature.

    **Source** YouTube-8M starter, readers.py, class of the same name.
    **Differs** `id` or `video_id`; a feature that a record lacks is zeros (the original raises). `dataset`
    takes the place of `prepare_reader`, which worked on TensorFlow 1's queues.

    Args:
        num_classes: classes C.
        feature_sizes: widths of the features.
        feature_names: their keys in the record, in the order in which they are joined.

    Raises:
        ValueError: not as many sizes as names, a size that is no number above 0, a name twice.

    Example:
        >>> reader = YT8MAggregatedFeatureReader(5, [2], ["mean_rgb"])
        >>> record = schema.serialize("a", [3], {"mean_rgb": np.float32([1, 2])}, reader.rows)
        >>> reader.prepare_serialized_examples([record])["video_matrix"].numpy().tolist()
        [[1.0, 2.0]]
    """

    def __init__(self, num_classes=3862, feature_sizes=(1024,), feature_names=("mean_inc3",)):
        rows = models.rows(feature_names, feature_sizes, False)
        super().__init__(num_classes, feature_sizes, feature_names, rows)

    def prepare_serialized_examples(self, serialized_examples):
        """The original's dictionary for a batch of records, or for one.

        Args:
            serialized_examples: string `(B,)`, or a scalar: a batch of 1.

        Returns:
            `video_ids` string `(B,)`, `video_matrix` float32 `(B, sum of sizes)`, `labels` bool `(B, C)`,
            `num_frames` float32 `(B,)`, all 1.

        Raises:
            tf.errors.InvalidArgumentError: a broken record, a feature of another size, a label out of range.
        """
        serialized = tf.reshape(serialized_examples, [-1])
        inputs, labels, ids, _ = schema.parse_batch(serialized, self.rows, self.num_classes, True)
        return {
            "video_ids": ids,
            "video_matrix": tf.concat([inputs[name] for name in self.feature_names], 1),
            "labels": labels > 0,
            "num_frames": tf.ones_like(ids, tf.float32),
        }


class YT8MFrameFeatureReader(_Reader):
    """Reads frame-level records: `tf.train.SequenceExample` with a string of bytes a frame.

    **Source** YouTube-8M starter, readers.py, class of the same name.
    **Differs** Many records at once, or one. `id` or `video_id`; repacked records (`starter.repack`) too. A
    stream that a record lacks is zeros (the original raises), and `num_frames` is that of the first listed
    stream that has frames. A segment or label out of range and frames of another size are errors that say
    so. `dataset` takes the place of `prepare_reader`, which worked on TensorFlow 1's queues.

    Args:
        num_classes: classes C.
        feature_sizes: widths of the streams, bytes a frame.
        feature_names: their keys in the record, in the order in which they are joined.
        max_frames: frames T of a video; the first T count.
        segment_labels: read the rated segments, not whole videos.
        segment_size: frames of a segment.

    Raises:
        ValueError: not as many sizes as names, a size that is no number above 0, a name twice.

    Example:
        >>> reader = YT8MFrameFeatureReader(5, [1], ["rgb"], max_frames=3)
        >>> record = schema.serialize("a", [3], {"rgb": np.array([[255], [0]], "uint8")}, reader.rows)
        >>> reader.prepare_serialized_examples(record)["video_matrix"].numpy().round(3).tolist()
        [[[2.00...], [-1.99...], [0.0]]]
    """

    def __init__(
        self,
        num_classes=3862,
        feature_sizes=(1024,),
        feature_names=("inc3",),
        max_frames=300,
        segment_labels=False,
        segment_size=schema.SEGMENT_FRAMES,
    ):
        rows = models.rows(feature_names, feature_sizes, True, max_frames)
        super().__init__(num_classes, feature_sizes, feature_names, rows)
        self.max_frames = max_frames
        self.segment_labels = segment_labels
        self.segment_size = segment_size
        self._segment_size = segment_size if segment_labels else 0

    def prepare_serialized_examples(self, serialized_example, max_quantized_value=2, min_quantized_value=-2):
        """The original's dictionary for one record, or for a batch of them.

        Args:
            serialized_example: string, a scalar or `(B,)`.
            max_quantized_value, min_quantized_value: the range that the bytes stand for.

        Returns:
            `video_ids` string `(N,)`, `video_matrix` float32 `(N, T, sum of sizes)`, 0.0 past the end of each
            stream, `labels` bool `(N, C)`, `num_frames` int32 `(N,)`; N is 1 for a scalar. For segments T is
            their size, and `num_frames` too, `labels` are the scores, float32, and `label_weights` float32
            `(N, C)` is 1 where rated; a record gives a row for each different start, in order of first
            appearance.

        Raises:
            tf.errors.InvalidArgumentError: a broken record, frames of another size, a label or segment out
                of range.
            ValueError: max_quantized_value is not above min_quantized_value.
        """
        serialized = tf.reshape(serialized_example, [-1])
        if self.segment_labels:
            inputs, labels, ids, lengths, weights = schema.parse_segments(
                serialized, self.rows, self.num_classes, self.segment_size
            )
            rest = {"num_frames": tf.fill(tf.shape(ids), self.segment_size), "label_weights": weights}
        else:
            inputs, labels, ids, lengths = schema.parse_batch(serialized, self.rows, self.num_classes, True)
            labels = labels > 0
            rest = {"num_frames": _first_present([lengths[name] for name in self.feature_names])}
        values = _values(max_quantized_value, min_quantized_value)
        streams = [_dequantized(inputs[name], lengths[name], values) for name in self.feature_names]
        return {"video_ids": ids, "video_matrix": tf.concat(streams, 2), "labels": labels, **rest}


def _values(max_value, min_value):
    """What each byte stands for: the layer's arithmetic, done outside TensorFlow's graph on any backend."""
    with tf.init_scope():
        every = np.arange(256, dtype="uint8")[:, None]
        return ops.convert_to_numpy(Dequantize(max_value, min_value, dtype="float32")(every))[:, 0]


def _dequantized(stream, length, values):
    """Bytes `(B, T, D)` as float32, 0 past the end."""
    real = tf.sequence_mask(length, tf.shape(stream)[1])
    return tf.where(real[..., None], tf.gather(values, tf.cast(stream, tf.int32)), 0.0)


def _first_present(lengths):
    """`(B,)` frames of the first stream that has any."""
    found = lengths[0]
    for length in lengths[1:]:
        found = tf.where(found > 0, found, length)
    return found
