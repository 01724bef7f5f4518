"""Made-up frame-level and video-level records, for the tests of reading them by pattern."""

import numpy as np
import tensorflow as tf

from tfvc.data import records, salvage, schema
from tfvc.recipe import Feature

T, CLASSES = 7, 5
MORE = f"num_classes={CLASSES}; raise it where the set has more"
ROWS = [Feature("rgb", (T, 4), "uint8", True), Feature("audio", (T, 2), "uint8", True)]
VIDEO = [Feature("mean_rgb", (4,)), Feature("mean_audio", (2,))]


def clip(name, frames=3, labels=(1,), rows=ROWS, streams=("rgb", "audio"), **options):
    """A frame-level record, the numbers drawn from its name."""
    rng = np.random.default_rng(list(name.encode()))
    features = {
        r.name: rng.integers(1, 256, (frames, r.shape[1]), "uint8") for r in rows if r.name in streams
    }
    return schema.serialize(name, list(labels), features, rows, **options)


def write(path, serialized, zipped=False):
    with tf.io.TFRecordWriter(str(path), "GZIP" if zipped else "") as writer:
        for record in serialized:
            writer.write(record)
    return path


def shards(folder, count=3, each=5, **options):
    """Shards `s0`, `s1` ... of clips `s0-0`, `s0-1` ...; returns the pattern."""
    for s in range(count):
        write(folder / f"s{s}.tfrecord", [clip(f"s{s}-{k}", 1 + k) for k in range(each)], **options)
    return str(folder / "s*.tfrecord")


def names(patterns, batch_size=4, rows=ROWS, **options):
    """Ids of all batches, in order."""
    source = records.Records(patterns, rows, CLASSES)
    with records.readable():
        return [
            i.decode() for _, _, ids in records.batches(source, batch_size, **options) for i in ids.numpy()
        ]


def offsets(path):
    """Where the records of a whole file begin, and its length."""
    places = [0]
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        places.append(places[-1] + len(record) + salvage.FRAMING)
    return places


def flip(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 0x40
    path.write_bytes(data)
