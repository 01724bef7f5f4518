"""One record: a `tf.train.SequenceExample` a clip, written and parsed from the same rows.

Context: `id` (bytes), `labels` (int64 class indices, left out where there are none). Feature lists:
one per row, one bytes value a frame, the frame's numbers as they lie in memory (little-endian).
A frame is opaque bytes, so float16, float32 and uint8 cost what they weigh, and a picture is a frame.
"""

import math

import numpy as np
import tensorflow as tf

DTYPES = {"float32": "<f4", "float16": "<f2", "uint8": "|u1"}
_LARGEST = 2**31 - 2**16  # a protocol buffer ends at 2 GiB


def serialize(clip_id, labels, features, rows):
    """Writes one clip.

    Args:
        clip_id: the clip's name; any text.
        labels: class indices; may be empty.
        features: dict, row name -> array `(N, ...)` of N frames, `...` as the row's shape after its
            first axis. A row that is left out, or None, is a missing stream.
        rows: the `recipe.Feature` rows of the data set.

    Returns:
        bytes, the same for the same arguments.

    Raises:
        ValueError: an unknown stream, another shape or dtype than the row's, or a clip over 2 GiB.

    Example:
        >>> from tfvc.recipe import Feature
        >>> rows = [Feature("frames", (None, 2))]
        >>> record = serialize("a", [1], {"frames": np.zeros((3, 2), "float32")}, rows)
        >>> len(tf.train.SequenceExample.FromString(record).feature_lists.feature_list["frames"].feature)
        3
    """
    unknown = sorted(set(features) - {row.name for row in rows})
    if unknown:
        raise ValueError(
            f"{clip_id}: stream {unknown[0]!r}; expected one of: {', '.join(r.name for r in rows)}"
        )
    example = tf.train.SequenceExample()
    example.context.feature["id"].bytes_list.value.append(clip_id.encode())
    if labels:
        example.context.feature["labels"].int64_list.value.extend(int(i) for i in labels)
    size = 0
    for row in rows:
        if features.get(row.name) is None:
            continue
        value = np.asarray(features[row.name])
        if value.dtype != row.dtype or value.shape[1:] != tuple(row.shape[1:]) or not value.ndim:
            expected = f"{row.dtype} (N, {', '.join(map(str, row.shape[1:]))})"
            raise ValueError(f"{clip_id}: {row.name} is {value.dtype} {value.shape}; expected {expected}")
        size += value.nbytes
        if size > _LARGEST:
            raise ValueError(f"{clip_id}: over 2 GiB of features; lower data.fps, pool, or cut the clip")
        value = np.ascontiguousarray(value, _stored(row))
        frames = example.feature_lists.feature_list[row.name].feature
        for frame in value:
            frames.add().bytes_list.value.append(frame.tobytes())
    return example.SerializeToString(deterministic=True)


def parse_batch(serialized, rows, num_classes, multi_label):
    """Parses a batch of records at once; graph or eager, TensorFlow operations only.

    A stream is cut to its first T frames or padded with zero frames at the end. Where a row's first
    axis is None, T is the longest of the batch. A missing stream is all zeros, length 0.

    Args:
        serialized: string `(B,)`.
        rows: `recipe.Feature` rows; their shapes start with T.
        num_classes: C.
        multi_label: whether a record may have any number of labels; else it has one, or none.

    Returns:
        `(inputs, labels, ids, lengths)`: dict of `(B, T, ...)` in the stored dtype; float32 `(B, C)`,
        one-hot or multi-hot, a row of zeros without labels; string `(B,)`; dict of int32 `(B,)`, the
        frames that are real, at most T.

    Raises:
        tf.errors.InvalidArgumentError: a broken record, a label that is no class, or a frame of
            another size than the row's.
    """
    label = tf.io.VarLenFeature(tf.int64) if multi_label else tf.io.FixedLenFeature([], tf.int64, -1)
    context, lists, counts = tf.io.parse_sequence_example(
        serialized,
        context_features={"id": tf.io.FixedLenFeature([], tf.string), "labels": label},
        sequence_features={
            row.name: tf.io.FixedLenSequenceFeature([], tf.string, allow_missing=True) for row in rows
        },
    )
    inputs, lengths = {}, {}
    for row in rows:
        strings, count = lists[row.name], tf.cast(counts[row.name], tf.int32)
        if row.shape[0] is not None:  # cut before decoding: frames beyond T cost nothing
            strings, count = _fit(strings, row.shape[0]), tf.minimum(count, row.shape[0])
        inputs[row.name], lengths[row.name] = _decode(strings, count, row), count
    labels = tf.ensure_shape(
        _hot(context["labels"], num_classes, multi_label), [context["id"].shape[0], num_classes]
    )
    return inputs, labels, context["id"], lengths


def _fit(strings, t):
    strings = strings[:, :t]
    padding = tf.fill([tf.shape(strings)[0], t - tf.shape(strings)[1]], "")
    return tf.ensure_shape(tf.concat([strings, padding], 1), [strings.shape[0], t])


def _decode(strings, count, row):
    frame = tuple(row.shape[1:])
    size = math.prod(frame) * np.dtype(_stored(row)).itemsize
    real = tf.sequence_mask(count, tf.shape(strings)[1])
    # decode_raw would silently cut or pad a frame of another size.
    right = tf.reduce_all((tf.strings.length(strings) == size) | ~real)
    message = f"a frame of {row.name!r} is not {size} bytes: records of another backbone or dtype"
    with tf.control_dependencies([tf.debugging.Assert(right, [message])]):
        if row.dtype == "float16":  # the padded decode_raw has no kernel for halves
            flat = tf.bitcast(tf.io.decode_raw(strings, "uint16", fixed_length=size), row.dtype)
        else:
            flat = tf.io.decode_raw(strings, row.dtype, fixed_length=size)
    shape = tf.concat([tf.shape(strings), tf.constant(frame, tf.int32)], 0)
    return tf.ensure_shape(tf.reshape(flat, shape), [strings.shape[0], row.shape[0], *frame])


def _hot(labels, num_classes, multi_label):
    if not multi_label:
        check = tf.debugging.assert_less(labels, tf.constant(num_classes, tf.int64), "a label is no class")
        with tf.control_dependencies([check] if check is not None else []):
            return tf.one_hot(labels, num_classes)
    zeros = tf.zeros([tf.cast(labels.dense_shape[0], tf.int32), num_classes])
    places = tf.stack([labels.indices[:, 0], labels.values], 1)
    return tf.tensor_scatter_nd_max(zeros, places, tf.ones([tf.shape(places)[0]]))


def _stored(row):
    if row.dtype not in DTYPES:
        raise ValueError(f"feature {row.name!r}: dtype {row.dtype!r}; expected one of: {', '.join(DTYPES)}")
    return DTYPES[row.dtype]
