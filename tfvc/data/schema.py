"""One record, written and parsed from the same rows.

A row of rank 1, as `Feature("mean_rgb", (1024,))`, is one vector a clip: a float list of the context. A row
of higher rank, as `Feature("rgb", (300, 1024), "uint8", True)`, is a stream of frames: a feature list with
one bytes value a frame, the frame's numbers as they lie in memory (little-endian). A frame is opaque bytes,
so float16, float32, uint8 and int32 cost what they weigh, a picture is a frame, and so is a word's number. A
stream may also lie in the context as ONE string, all frames joined (`packed`; starter/repack.py writes it):
what a record holds is seen, no flag tells.

The context also has `id` or `video_id` (bytes), `labels` (int64 class indices, left out where there are none)
and, where segments were rated, `segment_labels`, `segment_start_times` (int64) and `segment_scores` (float).
A `tf.train.SequenceExample` of a context alone is, byte for byte, a `tf.train.Example`: this one form is
that of YouTube-8M's video-level, frame-level and segment records.
"""

import functools
import math

import numpy as np
import tensorflow as tf

DTYPES = {"float32": "<f4", "float16": "<f2", "uint8": "|u1", "int32": "<i4"}
IDS = ("id", "video_id")
SEGMENTS = {"segment_labels": tf.int64, "segment_start_times": tf.int64, "segment_scores": tf.float32}
SEGMENT_FRAMES = 5
LARGEST = 2**31 - 2**17  # bytes of a record: a protocol buffer ends at 2 GiB
FRAME_BYTES = 32  # framing of one frame


def serialize(clip_id, labels, features, rows, *, packed=False, segments=()):
    """Writes one clip.

    Args:
        clip_id: the clip's name; any text.
        labels: class indices; may be empty.
        features: dict, row name -> array: `(N, ...)` of N frames, `...` as the row's shape after its
            first axis, or the row's own shape where that is of rank 1. A row that is left out, or None, is a
            missing stream.
        rows: the `recipe.Feature` rows of the data set.
        packed: one string a stream instead of one a frame.
        segments: `(start, label, score)` of rated segments of 5 frames; start in frames.

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
    context = example.context.feature
    context["id"].bytes_list.value.append(clip_id.encode())
    if labels:
        context["labels"].int64_list.value.extend(int(i) for i in labels)
    for start, label, score in segments:
        context["segment_start_times"].int64_list.value.append(int(start))
        context["segment_end_times"].int64_list.value.append(int(start) + SEGMENT_FRAMES)
        context["segment_labels"].int64_list.value.append(int(label))
        context["segment_scores"].float_list.value.append(float(score))
    size = 0
    for row in rows:
        if features.get(row.name) is None:
            continue
        value = np.asarray(features[row.name])
        vector = len(row.shape) == 1
        right = value.shape == tuple(row.shape) if vector else value.shape[1:] == tuple(row.shape[1:])
        if value.dtype != row.dtype or not right or not value.ndim:
            expected = row.shape[0] if vector else f"N, {', '.join(map(str, row.shape[1:]))}"
            raise ValueError(
                f"{clip_id}: {row.name} is {value.dtype} {value.shape}; expected {row.dtype} ({expected})"
            )
        size += value.nbytes
        if size > LARGEST:
            raise ValueError(f"{clip_id}: over 2 GiB of features; lower data.fps, pool, or cut the clip")
        value = np.ascontiguousarray(value, _stored(row))
        if vector:
            context[row.name].float_list.value.extend(value.tolist())
        elif packed:
            context[row.name].bytes_list.value.append(value.tobytes())
        else:
            frames = example.feature_lists.feature_list[row.name].feature
            for frame in value:
                frames.add().bytes_list.value.append(frame.tobytes())
    return example.SerializeToString(deterministic=True)


def parse_batch(serialized, rows, num_classes, multi_label):
    """Parses a batch of records at once; graph or eager, TensorFlow operations only.

    A stream is cut to its first T frames or padded with zero frames at the end. Where a row's first
    axis is None, T is the longest of the batch. A missing stream is all zeros, length 0. Records of the
    several forms (see the module) may lie in one batch.

    Args:
        serialized: string `(B,)`.
        rows: `recipe.Feature` rows; the shapes of streams of frames start with T.
        num_classes: C; None = the labels are not looked at, as when serving.
        multi_label: whether a record may have any number of labels; else it has one, or none.

    Returns:
        `(inputs, labels, ids, lengths)`: dict of `(B, T, ...)`, or `(B, D)` for a row of rank 1, in the
        stored dtype; float32 `(B, C)`, one-hot or multi-hot, a row of zeros without labels (None without
        C); string `(B,)`; dict of int32 `(B,)`, the frames that are real, at most T, of the streams.

    Raises:
        tf.errors.InvalidArgumentError: a broken record, one without an id, a label that is no class, or a
            frame of another size than the row's. `inspection.fault` says it in plain words.
    """
    inputs, lengths, context = _parse(
        serialized, rows, {"labels": _label(multi_label)} if num_classes is not None else {}
    )
    labels = None
    if num_classes is not None:
        labels = tf.ensure_shape(
            _hot(context["labels"], num_classes, multi_label), [context["id"].shape[0], num_classes]
        )
    return inputs, labels, context["id"], lengths


def parse_segments(serialized, rows, num_classes, segment_size=SEGMENT_FRAMES):
    """Cuts the rated segments out of a batch of records.

    One segment for each different start time of a record, in order of first appearance; of a repeated
    (start, label) the last score counts. A record without rated segments gives none.

    **Source** readers.py of the starter code, `YT8MFrameFeatureReader` with `segment_labels`.
    **Differs** a length is the number of real frames, so fewer than the segment's size at the end of a clip
    (the original's `num_frames` is the size; starter/readers.py gives that); an error names what is wrong.

    Args:
        serialized: string `(B,)`.
        rows: `recipe.Feature` rows of streams of frames; a segment must end within their T frames.
        num_classes: C.
        segment_size: frames S of a segment.

    Returns:
        `(inputs, labels, ids, lengths, label_weights)` for N segments: dict of `(N, S, ...)`; float32
        `(N, C)`, the scores; string `(N,)`; dict of int32 `(N,)`; float32 `(N, C)`, 1 where rated.

    Raises:
        tf.errors.InvalidArgumentError: as `parse_batch`; a start below 0 or past T - S; labels, starts and
            scores that differ in number.
    """
    inputs, lengths, context = _parse(
        serialized, rows, {name: tf.io.VarLenFeature(dtype) for name, dtype in SEGMENTS.items()}
    )
    label, start, score = (context[name] for name in SEGMENTS)
    last = min(row.shape[0] for row in rows) - segment_size
    places = start.indices[:, 0]
    places = checked(places, _same(start, label) & _same(start, score), "segment lists of different length")
    inside = tf.reduce_all((start.values >= 0) & (start.values <= last))
    places = checked(places, inside, f"a segment outside the frames 0 to {last + segment_size - 1}")
    known = tf.reduce_all((label.values >= 0) & (label.values < num_classes))
    key = (
        checked(places, known, "a label is no class") * (last + 1) + start.values
    )  # a number for each segment
    segments, of = tf.unique(key, tf.int64)
    record, first = tf.cast(segments // (last + 1), tf.int32), tf.cast(segments % (last + 1), tf.int32)
    count = tf.size(segments)
    # The last of equal (segment, label) counts: scatter alone would not promise an order.
    place, twin = tf.unique(of * num_classes + label.values, tf.int64)
    newest = tf.math.unsorted_segment_max(tf.range(tf.size(of)), twin, tf.size(place))
    place = tf.stack([place // num_classes, place % num_classes], 1)
    shape = tf.cast(tf.stack([count, num_classes]), tf.int64)
    scores = tf.scatter_nd(place, tf.gather(score.values, newest), shape)
    weights = tf.scatter_nd(place, tf.ones_like(newest, tf.float32), shape)
    frames = first[:, None] + tf.range(segment_size)
    where = tf.stack([tf.broadcast_to(record[:, None], tf.shape(frames)), frames], 2)
    cut = {row.name: tf.gather_nd(inputs[row.name], where) for row in rows}
    real = {
        row.name: tf.clip_by_value(tf.gather(lengths[row.name], record) - first, 0, segment_size)
        for row in rows
    }
    classes = [None, num_classes]
    return (
        {name: tf.ensure_shape(value, [None, segment_size, *value.shape[2:]]) for name, value in cut.items()},
        tf.ensure_shape(scores, classes),
        tf.gather(context["id"], record),
        real,
        tf.ensure_shape(weights, classes),
    )


def checked(value, right, message):
    """The value, or an InvalidArgumentError: tf.debugging.Assert, without the branch that it costs."""
    with tf.control_dependencies([tf.raw_ops.Assert(condition=right, data=[message])]):
        return tf.identity(value)


def _parse(serialized, rows, extra):
    """Inputs and lengths of the rows, and the context with `id` and what `extra` asks for.

    In a graph it is one call of a function that is traced once: a run has half a dozen pipelines.
    """
    if tf.executing_eagerly():
        return _parsed(serialized, rows, extra)
    return _traced(tuple(rows), tuple(extra.items()), serialized.shape[0])(serialized)


@functools.lru_cache(64)
def _traced(rows, extra, batch):
    @tf.function(input_signature=[tf.TensorSpec([batch], tf.string)], autograph=False)
    def parse(serialized):
        return _parsed(serialized, rows, dict(extra))

    return parse


def _parsed(serialized, rows, extra):
    vectors = [row for row in rows if len(row.shape) == 1]
    streams = [row for row in rows if len(row.shape) > 1]
    text = tf.io.FixedLenFeature([], tf.string, "")
    context = {name: text for name in IDS} | {row.name: text for row in streams} | extra
    for row in vectors:
        if row.dtype != "float32":
            raise ValueError(f"feature {row.name!r}: dtype {row.dtype!r}; a row of rank 1 is float32")
        context[row.name] = tf.io.FixedLenFeature(row.shape, tf.float32, [0.0] * row.shape[0])
    inputs, lengths, lists = {}, {}, {}
    if streams:
        context, lists, _ = tf.io.parse_sequence_example(
            serialized, context, {row.name: tf.io.RaggedFeature(tf.string) for row in streams}
        )
    else:
        context = tf.io.parse_example(serialized, context)
    ids = tf.where(context["id"] == "", context["video_id"], context["id"])
    ids = checked(ids, tf.reduce_all(ids != ""), "a record without an id")
    for row in vectors:
        inputs[row.name] = context[row.name]
    for row in streams:
        frames, count = _decode(lists[row.name], context[row.name], row)
        inputs[row.name] = tf.ensure_shape(frames, [context["id"].shape[0], *row.shape])
        lengths[row.name] = tf.ensure_shape(count, context["id"].shape)
    return inputs, lengths, context | {"id": ids}


def _decode(lists, packed, row):
    """Frames `(B, T, ...)` and their number, from a string a frame or, where it is not empty, `packed`."""
    size, t = frame_bytes(row), row.shape[0]
    wrong = f"a frame of {row.name!r} is not {size} bytes: records of another backbone or dtype"
    one = tf.reduce_all(lists.values.row_lengths() == 1)
    # decode_raw would silently cut or pad a frame of another size.
    right = one & tf.reduce_all(tf.strings.length(lists.flat_values) == size)
    flat = _numbers(checked(lists.flat_values, right, wrong), row, size)
    lists, count = lists.with_values(flat), tf.cast(lists.row_lengths(), tf.int32)
    length = tf.strings.length(packed)

    def one_string():
        whole = tf.reduce_all(length % size == 0)
        counts = tf.maximum(count, length // size)
        longest = t or tf.reduce_max(tf.concat([counts, [1]], 0))
        joined = _numbers(checked(packed, whole, wrong), row, longest * size)
        joined = tf.reshape(joined, [-1, longest, flat.shape[1]])

        def either():
            frames = lists.to_tensor(shape=[None, t, flat.shape[1]])
            if not t:  # in a graph `to_tensor` takes no tensor for a size
                frames = tf.pad(frames, [[0, 0], [0, longest - tf.shape(frames)[1]], [0, 0]])
            return tf.where((length > 0)[:, None, None], joined, frames)

        return tf.cond(tf.size(flat) > 0, either, lambda: joined), counts

    def one_a_frame():
        return lists.to_tensor(shape=[None, t, flat.shape[1]]), count

    frames, count = tf.cond(tf.reduce_any(length > 0), one_string, one_a_frame)
    shape = tf.shape(frames)
    return tf.reshape(frames, [shape[0], shape[1], *row.shape[1:]]), tf.minimum(count, t) if t else count


def _numbers(strings, row, size):
    """The numbers `(N, size / bytes of a number)` of N strings; shorter ones are filled up with zeros."""
    if row.dtype == "float16":  # the padded decode_raw has no kernel for halves
        return tf.bitcast(tf.io.decode_raw(strings, "uint16", fixed_length=size), row.dtype)
    return tf.io.decode_raw(strings, row.dtype, fixed_length=size)


def _label(multi_label):
    return tf.io.VarLenFeature(tf.int64) if multi_label else tf.io.FixedLenFeature((), tf.int64, -1)


def _same(a, b):
    """Whether two sparse columns have as many values in each record."""
    same = tf.size(a.values) == tf.size(b.values)
    return tf.cond(same, lambda: tf.reduce_all(a.indices == b.indices), lambda: False)


def _hot(labels, num_classes, multi_label):
    if not multi_label:
        check = tf.debugging.assert_less(labels, tf.constant(num_classes, tf.int64), "a label is no class")
        with tf.control_dependencies([check] if check is not None else []):
            return tf.one_hot(labels, num_classes)
    zeros = tf.zeros([tf.cast(labels.dense_shape[0], tf.int32), num_classes])
    places = tf.stack([labels.indices[:, 0], labels.values], 1)
    return tf.tensor_scatter_nd_max(zeros, places, tf.ones([tf.shape(places)[0]]))


def frame_bytes(row):
    """Bytes of one frame of a row."""
    return math.prod(row.shape[1:]) * np.dtype(_stored(row)).itemsize


def _stored(row):
    if row.dtype not in DTYPES:
        raise ValueError(f"feature {row.name!r}: dtype {row.dtype!r}; expected one of: {', '.join(DTYPES)}")
    return DTYPES[row.dtype]
