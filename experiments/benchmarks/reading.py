"""Records a second of reading frame-level shards, against the classic way and against merely reading them.

(a) ours: `tfvc.data.records.batches`, bytes as stored; (b) classic: parse each record alone, dequantise and
pad it to float32 in the map, batch, one after the other; and (`parallel`) the same as TensorFlow 2 rewrites
it unless told not to, with as many calls as it likes, and a prefetch; (c) raw: read and batch the records,
nothing more; (d) repacked: ours, on shards with one string a stream. The same records, some passes in one
go, the rounds alternating, medians. Every case gives batches of `batch_size` to a plain loop.

The clock stops at the last batch, and the iterator is kept: its end waits for TensorFlow's tuning thread,
which sleeps 10 ms, then 20, 40 ... so that a pass to the end lasts 0.31, 0.63, 1.27 ... seconds whatever it
does. One pass to the end is shown too, without bars: it takes as long as the next of these slots.
"""

import tempfile
from pathlib import Path

from experiments.benchmarks import Result, alternate, medians

OPTIONS = {
    "rounds": 5,
    "shards": 6,
    "records": 200,  # a shard
    "passes": 16,  # in one go: to start takes ours 0.15 s, the others 0.05 s
    "batch_size": 128,
    "seed": 0,
}
_FRAMES, _LEAST, _CLASSES = 300, 120, 3862
_STREAMS = {"rgb": 1024, "audio": 128}
_CLASSIC, _RAW = 2.0, 0.75


def run(options):
    """Makes the shards, measures; returns the list of results."""
    with tempfile.TemporaryDirectory() as folder:
        plain, packed = _shards(Path(folder), options)
        cases = _cases(plain, packed, options)
        total, kept = options["shards"] * options["records"] * options["passes"], []
        counts = {n: sum(map(_size, dataset)) for n, dataset in cases.items()}  # warm: traced, files cached
        if set(counts.values()) != {total}:
            raise ValueError(f"cases that did not read {total} records: {counts}")
        loops = {name: lambda d=dataset: _drain(d, total, kept) for name, dataset in cases.items()}
        seconds = alternate(loops, options["rounds"])
        once = _cases(plain, packed, options | {"passes": 1})
        ends = {name: lambda d=once[name]: sum(map(_size, d)) for name in ("ours", "classic", "raw")}
        alternate(ends, 1)
        to_the_end = alternate(ends, options["rounds"])
    rate = {name: total / value for name, value in medians(seconds).items()}
    one = {name: total / options["passes"] / value for name, value in medians(to_the_end).items()}
    details = {"records": total, "seconds": seconds, "records_per_second": rate, "to_the_end": to_the_end}
    return [
        Result("ours / classic", rate["ours"] / rate["classic"], _CLASSIC, _shown(rate), details),
        Result("ours / raw", rate["ours"] / rate["raw"], _RAW),
        Result("one pass to the end: ours / classic", one["ours"] / one["classic"], None, _shown(one)),
        Result("one pass to the end: ours / raw", one["ours"] / one["raw"]),
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


def _cases(plain, packed, options):
    import tensorflow as tf

    from tfvc.data import records

    size, passes = options["batch_size"], options["passes"]
    files = tf.data.TFRecordDataset(plain * passes)

    def ours(paths, shuffle=False):
        source = records.Records(paths, _rows(), _CLASSES)
        return records.batches(source, size, epochs=passes, shuffle=shuffle)

    alone = tf.data.Options()
    alone.experimental_optimization.map_parallelization = False
    return {
        "ours": ours(plain),
        "classic": files.map(_classic).batch(size).with_options(alone),
        "parallel": files.map(_classic, tf.data.AUTOTUNE).batch(size).prefetch(tf.data.AUTOTUNE),
        "raw": files.batch(size),
        "shuffled": ours(plain, shuffle=True),
        "repacked": ours(packed),
    }


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


def _drain(dataset, total, kept):
    """Takes batches until there were so many records. The iterator goes into `kept`."""
    kept.append(iter(dataset))
    for batch in kept[-1]:
        total -= _size(batch)
        if not total:
            return


def _size(batch):
    import tensorflow as tf

    return int(tf.nest.flatten(batch)[0].shape[0])
