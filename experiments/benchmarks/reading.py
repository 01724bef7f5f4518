"""Records a second of reading frame-level shards, against the classic way and against merely reading them.

(a) ours: `tfvc.data.records.batches`, bytes as stored; (b) classic: parse each record alone, dequantise and
pad it to float32 in the map, batch, one after the other; and (`parallel`) the same as TensorFlow 2 rewrites
it unless told not to, with as many calls as it likes, and a prefetch; (c) raw: read and batch the records,
nothing more; (`padded`) raw, and arrays of the batches' shapes filled with zeros: the least that any reader
of them must do; (d) repacked: ours, on shards with one string a stream. The same records, some passes in one
go, the rounds alternating, medians. Every case gives batches of `batch_size` to a plain loop.

Each case of each round has a process of its own, which reads once to warm up. In one process what a case
takes depends on the memory that the others have left it: raw took anything between 4,600 and 12,300 records a
second. The clock stops at the last batch: but for ours, an iterator's end may wait for TensorFlow's tuning
thread, which sleeps 10 ms, then 20, 40 ... a minute at most (`tfvc.data.raw.untuned`).
"""

import multiprocessing
import tempfile
import time
from pathlib import Path

from experiments.benchmarks import Result, medians

OPTIONS = {
    "rounds": 5,
    "shards": 6,
    "records": 200,  # a shard
    "passes": 16,  # in one go: to start takes ours 0.15 s, the others 0.05 s
    "batch_size": 128,
    "seed": 0,
}
_FRAMES, _LEAST, _CLASSES = 300, 120, 3862
_CASES = ("ours", "classic", "parallel", "raw", "padded", "shuffled", "repacked")
_STREAMS = {"rgb": 1024, "audio": 128}
_CLASSIC, _RAW = 2.0, 0.75


def run(options):
    """Makes the shards, measures; returns the list of results."""
    with (
        tempfile.TemporaryDirectory() as folder,
        multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as fresh,
    ):
        paths = fresh.apply(_shards, (Path(folder), options))
        seconds = {name: [] for name in _CASES}
        for _ in range(options["rounds"]):
            for name in _CASES:
                seconds[name].append(fresh.apply(_seconds, (name, *paths, options)))
    total = _total(options)
    rate = {name: total / value for name, value in medians(seconds).items()}
    details = {"records": total, "seconds": seconds, "records_per_second": rate}
    return [
        Result("ours / classic", rate["ours"] / rate["classic"], _CLASSIC, _shown(rate), details),
        Result("ours / raw", rate["ours"] / rate["raw"], _RAW),
        Result("ours / raw and padded", rate["ours"] / rate["padded"]),
        Result("ours / classic, parallel", rate["ours"] / rate["parallel"]),
        Result("ours, shuffled / raw", rate["shuffled"] / rate["raw"]),
        Result("ours on repacked shards / raw", rate["repacked"] / rate["raw"]),
    ]


def _shown(rates):
    return "records/s: " + ", ".join(f"{name} {value:.0f}" for name, value in rates.items())


def _rows():
    from tfvc.recipe import Feature

    return [Feature(name, (_FRAMES, size), "uint8", True) for name, size in _STREAMS.items()]


def _shards(folder, options):
    """Two lists of shards of the same clips: a string a frame, and a string a stream."""
    import numpy as np
    import tensorflow as tf

    from tfvc.data import schema

    rng, rows = np.random.default_rng(options["seed"]), _rows()
    paths = [[str(folder / f"{form}{k}") for k in range(options["shards"])] for form in ("plain", "packed")]
    for k, pair in enumerate(zip(*paths, strict=True)):
        with tf.io.TFRecordWriter(pair[0]) as plain, tf.io.TFRecordWriter(pair[1]) as packed:
            for number in range(options["records"]):
                frames = int(rng.integers(_LEAST, _FRAMES + 1))
                streams = {n: rng.integers(0, 256, (frames, size), "uint8") for n, size in _STREAMS.items()}
                labels = rng.choice(_CLASSES, 3, replace=False).tolist()
                for writer in (plain, packed):
                    record = schema.serialize(f"{k}-{number}", labels, streams, rows, packed=writer is packed)
                    writer.write(record)
    return paths


def _dataset(name, plain, packed, options):
    """The dataset of a case."""
    import tensorflow as tf

    from tfvc.data import records

    size, passes = options["batch_size"], options["passes"]
    if name in ("ours", "shuffled", "repacked"):
        source = records.Records(packed if name == "repacked" else plain, _rows(), _CLASSES)
        return records.batches(source, size, epochs=passes, shuffle=name == "shuffled")
    files = tf.data.TFRecordDataset(plain * passes)
    if name == "raw":
        return files.batch(size)
    if name == "padded":
        return files.batch(size).map(_padded, 2).prefetch(tf.data.AUTOTUNE)
    if name == "parallel":
        return files.map(_classic, tf.data.AUTOTUNE).batch(size).prefetch(tf.data.AUTOTUNE)
    alone = tf.data.Options()
    alone.experimental_optimization.map_parallelization = False
    return files.map(_classic).batch(size).with_options(alone)


def _padded(records):
    """Zeros in the shapes of a batch, none of them known before the records are."""
    import tensorflow as tf

    zero = tf.cast(tf.strings.length(records)[0] * 0, tf.uint8)
    return [tf.fill([tf.shape(records)[0], _FRAMES, size], zero) for size in _STREAMS.values()]


def _classic(serialized):
    """One record, as programs after the original's reader do it: floats, padded, labels as a row of flags."""
    import tensorflow as tf

    context, lists = tf.io.parse_single_sequence_example(
        serialized,
        {"id": tf.io.FixedLenFeature([], tf.string), "labels": tf.io.VarLenFeature(tf.int64)},
        {name: tf.io.FixedLenSequenceFeature([], tf.string) for name in _STREAMS},
    )
    streams = []
    for name, size in _STREAMS.items():
        frames = tf.reshape(tf.io.decode_raw(lists[name], tf.uint8), [-1, size])[:_FRAMES]
        frames = tf.cast(frames, tf.float32) * (4 / 255) + (4 / 512 - 2)
        streams.append(tf.pad(frames, [[0, _FRAMES - tf.shape(frames)[0]], [0, 0]]))
        streams[-1].set_shape([_FRAMES, size])
    labels = tf.reduce_max(tf.one_hot(context["labels"].values, _CLASSES), 0)
    return tf.concat(streams, 1), labels, context["id"], tf.shape(lists["rgb"])[0]


def _seconds(name, plain, packed, options):
    """Of all passes of a case, to the last batch, after one go to warm up: traced, files cached."""
    dataset, left = _dataset(name, plain, packed, options), _total(options)
    read = sum(map(_size, dataset))
    if read != left:
        raise ValueError(f"{name} read {read} records, not {left}")
    start = time.perf_counter()
    for batch in dataset:
        left -= _size(batch)
        if not left:
            return time.perf_counter() - start


def _total(options):
    return options["shards"] * options["records"] * options["passes"]


def _size(batch):
    import tensorflow as tf

    return int(tf.nest.flatten(batch)[0].shape[0])
