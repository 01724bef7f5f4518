"""Records: framing, one record, the manifest of a folder."""

import contextlib

import numpy as np

from experiments.fuzzing.common import allowed, as_json

ROWS = (("mean_rgb", (4,), "float32"), ("rgb", (6, 2), "uint8"), ("frames", (None, 2), "float16"))
CLASSES = 5


def _rows():
    from tfvc.recipe import Feature

    return [Feature(*row) for row in ROWS]


def _records():
    """Records of all forms: frames one a value, in one string, none; rated segments."""
    from tfvc.data import schema

    value = {name: np.ones([n or 3 for n in shape], dtype) for name, shape, dtype in ROWS}
    whole = schema.serialize("a", [1, 4], value, _rows(), segments=[(0, 2, 1.0), (1, 4, 0.5)])
    return [whole, schema.serialize("b", [0], value, _rows(), packed=True), schema.serialize("c", [], {}, [])]


def _framed(records):
    """Records as they lie in a TFRecord file."""
    from tfvc.data import salvage

    def crc(data):
        return int(salvage.masked(salvage.crc32c(data))).to_bytes(4, "little")

    pairs = [(len(record).to_bytes(8, "little"), record) for record in records]
    return b"".join(length + crc(length) + record + crc(record) for length, record in pairs)


def tfrecord():
    """Framing: as given, and once more with the first length's checksum made right."""
    from tfvc.data import salvage

    def read(folder, data):
        path = folder / "a.tfrecord"
        checksum = int(salvage.masked(salvage.crc32c(data[:8]))).to_bytes(4, "little")
        for form in (data, data[:8] + checksum + data[12:]):
            path.write_bytes(form)
            _, offsets = salvage.survey(str(path))
            for offset in offsets:
                salvage.record(str(path), offset)
            salvage.count(path)
            salvage.readable(path)

    return read, [_framed([b"abc", b"", b"x" * 100]), _framed(_records()[:1])]


def gzip():
    """A zipped file of records, as far as it can be unpacked."""
    import gzip as packer

    from tfvc.data import salvage

    def read(folder, data):
        path, target = folder / "a.gz", folder / "a"
        path.write_bytes(data)
        salvage.unzip(str(path), target)
        salvage.survey(str(target))

    whole = packer.compress(_framed([b"abc", b"x" * 50]), mtime=0)
    return read, [whole, whole + whole]


def record():
    """One record: TensorFlow's graph, whose error is `tf.errors.OpError`, and what says it in plain words."""
    import tensorflow as tf

    from tfvc.data import inspection, schema

    strings, rows = [tf.TensorSpec([None], tf.string)], _rows()
    parts = [row for row in rows if row.shape[0] == 6]
    clips = tf.function(lambda s: schema.parse_batch(s, rows, CLASSES, True), strings)
    segments = tf.function(lambda s: schema.parse_segments(s, parts, CLASSES), strings)

    def read(folder, data):
        batch = tf.constant([data])
        for parse in (clips, segments):
            with contextlib.suppress(tf.errors.OpError):
                parse(batch)
        inspection.fault(data, rows, CLASSES)
        inspection.fault(data, parts, CLASSES, schema.SEGMENT_FRAMES)
        with contextlib.suppress(ValueError):  # it has no file to name
            inspection.streams(data)
            inspection.rows_in(data, {"rgb": 2})

    return read, _records()


def shards():
    """`manifest.json` of a folder of records; the same bytes as a shard's entry."""
    from tfvc import recipe
    from tfvc.data import datasets, pipeline
    from tfvc.data import shards as folders

    def read(folder, data):
        for name in (folders.MANIFEST, "shard-00000.json"):
            (folder / name).write_bytes(data)
        with allowed(folder):
            folders.done(folder, 0)
        with allowed(folder):
            manifest = folders.read_manifest(folder)
            pipeline.mean_frames(manifest)
            datasets.load(recipe.Data(), str(folder)) if folders.is_records(folder) else None
            folders.check_sizes(manifest)

    entry = {"id": "a", "frames": 3, "bytes": 9, "labels": [1], "group": "g", "part": "train"}
    shard = {"file": "shard-00000.tfrecord", "bytes": 25, "sha256": "00", "records": [entry]}
    tree = {"format": folders.FORMAT, "digest": "0", "settings": {"data.fps": 1}, "dataset": "set"}
    tree |= {"classes": ["x", "y"], "multi_label": False, "clips": 1, "shard_count": 1, "complete": True}
    tree["features"] = [{"name": "frames", "shape": [None, 2], "dtype": "float32", "packed": False}]
    tree["features"][0].pop("packed")
    tree |= {"shards": [shard], "skipped": [["b.mp4", "why"]], "warnings": [], "vocabulary": ["w"]}
    settings = tree["settings"] | {"text.vocabulary": recipe.digest(["w"])}
    return read, [as_json(tree), as_json(tree | {"settings": settings}), as_json(tree | {"complete": False})]
