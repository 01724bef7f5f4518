"""What tf.data has no method for, or only a dearer one: out of TensorFlow's own operations."""

import os

import tensorflow as tf

PARALLEL = min(os.cpu_count() or 1, 16)  # calls of a function at once
AHEAD = 2  # batches that wait for who takes them
_ROW = {"element_shape": [-1, 3], "element_dtype": tf.int64}


def stored(path, kind, buffer=1 << 18):
    """The records of one file: `tf.data.TFRecordDataset` without the function that it makes, and calls for
    each file, as there might be several.

    Args:
        path: of the file; a str, or a string tensor ().
        kind: "" or "GZIP", likewise.
        buffer: bytes a read.

    Returns:
        `tf.data.Dataset` of string tensors ().

    Example:
        >>> stored("shard-00000.tfrecord", "").element_spec.dtype
        tf.string
    """
    files = tf.reshape(path, [1])
    variant = tf.raw_ops.TFRecordDataset(filenames=files, compression_type=kind, buffer_size=buffer)
    return tf.data.experimental.from_variant(variant, tf.TensorSpec([], tf.string))


def shuffled(dataset, window, seed, number):
    """Shuffled by a seed of its own: `Dataset.shuffle` takes none that differs by epoch.

    Args:
        dataset: of any elements.
        window: elements to draw from.
        seed: an int.
        number: of the epoch, say; an int or a tensor ().

    Example:
        >>> drawn = shuffled(tf.data.Dataset.range(4), 4, seed=0, number=1)
        >>> sorted(int(n) for n in drawn)
        [0, 1, 2, 3]
    """
    variant = tf.raw_ops.ShuffleDataset(
        input_dataset=tf.data.experimental.to_variant(dataset),
        buffer_size=tf.constant(window, tf.int64),
        seed=tf.constant(seed, tf.int64) + 1,
        seed2=tf.cast(number, tf.int64) + 1,
        output_types=tf.nest.flatten(tf.nest.map_structure(lambda s: s.dtype, dataset.element_spec)),
        output_shapes=tf.nest.flatten(tf.nest.map_structure(lambda s: s.shape, dataset.element_spec)),
        reshuffle_each_iteration=False,
    )
    return tf.data.experimental.from_variant(variant, dataset.element_spec)


def untuned(dataset):
    """Without tf.data's tuner, a thread of each iterator, for what has its parallelism and buffers given.

    At an iterator's end all of Python waits for that thread. It is woken a moment before it can see that it
    shall end (`CancellationManager`: first the callbacks, then the flag); where it looks within that moment
    it sleeps on, for about as long as the iterator has lived, a minute at most. Of 120 iterators on two idle
    cores 18 waited so; TensorFlow 2.21 does the same.

    Args:
        dataset: of any elements.

    Example:
        >>> untuned(tf.data.Dataset.range(4)).options().autotune.enabled
        False
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def no_rows():
    """An empty list of rows of three int64, to be the state of `Dataset.scan`: a tensor that grows would have
    it trace its function twice.

    Example:
        >>> rows_of(with_rows(with_rows(no_rows(), [[1, 2, 3]]), [[4, 5, 6]])).shape
        TensorShape([2, 3])
    """
    return tf.raw_ops.EmptyTensorList(max_num_elements=-1, **_ROW)


def with_rows(rows, more):
    """The list and more: int64 (N, 3)."""
    return tf.raw_ops.TensorListPushBack(input_handle=rows, tensor=tf.convert_to_tensor(more, tf.int64))


def rows_of(rows):
    """All rows of the list: int64 (K, 3)."""
    return tf.raw_ops.TensorListConcatV2(
        input_handle=rows, leading_dims=tf.zeros([0], tf.int64), **_ROW
    ).tensor
