"""From shards to batches. The order is a function of the seed and the epoch, and of nothing else.

Records stay serialised, in their stored dtype, until a whole batch is parsed at once. No branch of Python's
hangs on a tensor here, so AutoGraph is told not to look for one: that takes a second at each start.
"""

import contextlib
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfvc import files
from tfvc.data import raw, salvage, schema, shards
from tfvc.data.sharing import ALONE
from tfvc.names import suggest

_READ = 8 << 20  # bytes a read


@dataclass(frozen=True)
class Source:
    """Some clips of a folder of records, and how they enter a model.

    Args:
        folder: a complete folder of records.
        rows: `recipe.Feature` rows, with the final T.
        classes: class names in the model's order; the records may have another.
        multi_label: whether a clip may have several labels.
        ids: the clips to read, in any order; None = all.
    """

    folder: Path
    rows: list
    classes: list
    multi_label: bool = False
    ids: list | None = field(default=None, repr=False)


@dataclass(frozen=True)
class _Opened:
    files: list  # shards that hold a wanted record
    keep: np.ndarray  # bool (files, records of the largest): which records are wanted
    records: list  # their entries
    classes: list  # the manifest's


@tf.autograph.experimental.do_not_convert
def train_batches(
    source,
    batch_size,
    *,
    seed=0,
    shuffle,
    drop_remainder,
    first_step=0,
    replicas=1,
    cache_mb=1024,
    share=ALONE,
):
    """Batches for `fit`, without end.

    Where the wanted records fit into `cache_mb` they are read once and kept, and each epoch is a full
    permutation. Else each epoch reads the shards in a new order and permutes blocks of half that size.
    Without `shuffle`, every epoch is in the order of the records.

    Args:
        source: a Source.
        batch_size: clips a batch, over all replicas.
        seed: of the order.
        shuffle: whether each epoch has an order of its own.
        drop_remainder: whether the last, smaller batch of an epoch is left out.
        first_step: batches to pass over: a run resumed at step n goes on with the batch it would have
            had.
        replicas: devices that share a batch. TensorFlow gives them equal parts only of a multiple of their
            number, so the last batch is cut to one.
        cache_mb: MiB of serialised records kept in memory.
        share: the worker's; its part of each batch is what comes. By files (of records that are streamed)
            all take equally many clips an epoch: one that has more comes to the rest in the next.

    Returns:
        `(dataset, steps)`: an infinite `tf.data.Dataset` of `(inputs, labels)` as
        `schema.parse_batch` gives them, and the batches of one epoch.

    Raises:
        ValueError: a shard that is missing, cut short or damaged (where the records are streamed, damage
            shows on the way: iterate within `readable`); ids or rows that the records do not have; a clip
            without a label; no full batch; a batch that is no multiple of the replicas.
    """
    opened = _open(source)
    bare = next((r["id"] for r in opened.records if not r["labels"]), None)
    if bare is not None:
        raise ValueError(f"{source.folder}: clip {bare!r} has no label, and cannot be trained on")
    if batch_size % replicas:
        raise ValueError(f"batch_size={batch_size}: expected a multiple of the {replicas} replicas")
    count = len(opened.records) // replicas * replicas
    steps = count // batch_size if drop_remainder else math.ceil(count / batch_size)
    if not steps:
        raise ValueError(f"{count} clips make no batch of {batch_size}; lower train.batch_size")
    first_epoch, done = divmod(first_step, steps)
    streamed = _bytes(opened) > cache_mb << 20
    apart = streamed and share.by_file(len(opened.files))
    if apart:
        opened = _dealt(opened, share)
        count, batch_size = min(count, steps * batch_size) // share.count, batch_size // share.count
    if not streamed:
        records, epoch = _in_memory(opened, source, shuffle, seed)
    else:
        # Half: a block lies in memory twice, as it was read and as it is permuted.
        block = (
            max(2 * batch_size, (cache_mb << 19) * len(opened.records) // _bytes(opened)) if shuffle else 0
        )
        records, epoch = None, _from_disk(opened, min(block, len(opened.records)), seed)

    def batched(number):
        skipped = tf.where(number == first_epoch, tf.constant(done * batch_size, tf.int64), 0)
        return share.of(epoch(number).take(count).skip(skipped).batch(batch_size, drop_remainder))

    if apart:  # a worker's own epochs are as long as its files; those of the training are as long for all
        before, sizes = first_epoch * count + done * batch_size, [batch_size] * steps
        sizes[-1] = count - batch_size * (steps - 1)
        own = tf.data.Dataset.range(before // len(opened.records), np.iinfo(np.int64).max).flat_map(epoch)
        own = own.skip(before % len(opened.records)).batch(batch_size)
        dataset = own.rebatch(sizes[done:] + sizes[:done])
    else:
        dataset = tf.data.Dataset.range(first_epoch, np.iinfo(np.int64).max).flat_map(batched)
    return _parsed(
        dataset, source, opened, records, lambda inputs, labels, ids, lengths: (inputs, labels)
    ), steps


def batches(source, batch_size, *, drop_remainder=False, cache_mb=0, ids=True):
    """One pass over the clips, in the order of the records.

    Returns:
        A finite `tf.data.Dataset` of `(inputs, labels, ids)`, or with `ids=False` of `(inputs, labels)`; it
        may be iterated again.

    Raises:
        ValueError: as `train_batches`; a clip without a label has a row of zeros.
    """
    return _pass(source, batch_size, drop_remainder, cache_mb, lambda *four: four[: 3 if ids else 2])


@contextlib.contextmanager
def readable(folder):
    """Around whatever reads batches from disk: a shard that breaks on the way is named.

    Raises:
        ValueError: in place of TensorFlow's error; a shard is damaged, or gone.
    """
    try:
        yield
    except (tf.errors.DataLossError, tf.errors.NotFoundError, tf.errors.InvalidArgumentError) as error:
        shards.verify(folder)  # names the file
        raise ValueError(f"{folder}: cannot be read ({files.first_line(error)})") from None


def mean_frames(manifest):
    """T of the paper: int(mean frame count over the whole data set).

    Raises:
        ValueError: the manifest holds no record.
    """
    if not manifest.records:
        raise ValueError(f"{manifest.folder}: no record in it; see skipped.csv there")
    return sum(r["frames"] for r in manifest.records) // len(manifest.records)


def feature_statistics(source, name="frames", batch_size=16):
    """Mean and variance of each value of a frame, over the real frames (at most T a clip), streamed.

    Returns:
        `(mean, variance)`, float32, of the row's shape without T. The variance is the population's.

    Raises:
        ValueError: as `batches`, or no row of that name, or no real frame.
    """
    count, mean, squares = 0, 0.0, 0.0
    if name not in {row.name for row in source.rows}:
        raise ValueError(suggest("row", name, [row.name for row in source.rows]))
    with readable(source.folder):
        for values, lengths in _pass(source, batch_size, False, 0, lambda i, _, __, n: (i[name], n[name])):
            real = values.numpy()[tf.sequence_mask(lengths, tf.shape(values)[1]).numpy()].astype(np.float64)
            if not len(real):
                continue
            # Chan et al.'s update: sums of squares of raw values would cancel.
            middle = real.mean(0)
            delta, total = middle - mean, count + len(real)
            squares = squares + ((real - middle) ** 2).sum(0) + delta**2 * (count * len(real) / total)
            mean, count = mean + delta * (len(real) / total), total
    if not count:
        raise ValueError(f"{source.folder}: no real frame of {name!r} to standardise by")
    return np.float32(mean), np.float32(squares / count)


@tf.autograph.experimental.do_not_convert
def _pass(source, batch_size, drop_remainder, cache_mb, take):
    opened = _open(source)
    if _bytes(opened) <= cache_mb << 20:
        records, epoch = _in_memory(opened, source, False, 0)
    else:
        records, epoch = None, _from_disk(opened, 0, 0)
    return _parsed(epoch(0).batch(batch_size, drop_remainder), source, opened, records, take)


def _open(source):
    """Checks what a manifest can tell, before the first step rather than in the middle of an epoch."""
    manifest = shards.read_manifest(source.folder)
    there = {row.name: row for row in manifest.features}
    for row in source.rows:
        if row.name not in there:
            raise ValueError(f"{source.folder}: {suggest('stream', row.name, there)}")
        old = there[row.name]
        if (tuple(old.shape[1:]), old.dtype) != (tuple(row.shape[1:]), row.dtype):
            raise ValueError(
                f"{source.folder}: {row.name} frames are {old.dtype} {tuple(old.shape[1:])}; "
                f"expected {row.dtype} {tuple(row.shape[1:])}"
            )
    wanted = set(manifest.ids if source.ids is None else source.ids)
    absent = sorted(wanted.difference(manifest.ids))
    if absent:
        raise ValueError(
            f"{source.folder}: has no record of {len(absent)} clips, {absent[0]!r} the first; expected the "
            "records and the split.json that belong together: put them back, or extract and train again"
        )
    if not wanted:
        raise ValueError(f"{source.folder}: no clip to read")
    used = [shard for shard in manifest.shards if any(r["id"] in wanted for r in shard["records"])]
    shards.check_sizes(manifest, used)
    for path in (manifest.folder / shard["file"] for shard in used):
        if not salvage.readable(path):
            raise ValueError(f"{path}: damaged (the length of a record); remove it and extract again")
    keep = np.zeros((len(used), max(len(shard["records"]) for shard in used)), bool)
    for k, shard in enumerate(used):
        keep[k, : len(shard["records"])] = [r["id"] in wanted for r in shard["records"]]
    records = [r for shard in used for r in shard["records"] if r["id"] in wanted]
    for record in records:
        _check_labels(record, source, manifest)
    return _Opened([str(manifest.folder / s["file"]) for s in used], keep, records, manifest.classes)


def _check_labels(record, source, manifest):
    where = f"{source.folder}: clip {record['id']!r}"
    if len(record["labels"]) > 1 and not source.multi_label:
        raise ValueError(f"{where} has {len(record['labels'])} labels; expected one")
    for i in record["labels"]:
        if manifest.classes[i] not in source.classes:
            raise ValueError(f"{where}: {suggest('class', manifest.classes[i], source.classes)}")


def _dealt(opened, share):
    """A worker's files: the fullest are dealt first, each to the worker that has the fewest records."""
    wanted, given = opened.keep.sum(1), [[] for _ in range(share.count)]
    for file in np.argsort(-wanted, kind="stable"):
        min(given, key=lambda mine: wanted[mine].sum()).append(int(file))
    mine, starts = sorted(given[share.index]), np.cumsum([0, *wanted])
    records = [r for k in mine for r in opened.records[starts[k] : starts[k + 1]]]
    return _Opened([opened.files[k] for k in mine], opened.keep[mine], records, opened.classes)


def _bytes(opened):
    return sum(r["bytes"] for r in opened.records)


def _read(files, keep):
    """Wanted records of some shards, one shard after the other."""

    def shard(file, keep):
        kept = tf.data.Dataset.from_tensor_slices(keep)
        pairs = tf.data.Dataset.zip((raw.stored(file, "", _READ), kept))
        return pairs.filter(lambda record, keep: keep).map(lambda record, keep: record)

    return tf.data.Dataset.from_tensor_slices((files, keep)).flat_map(shard)


def _order(count, seed, number):
    """A permutation that depends on seed and epoch only."""
    pair = tf.stack([tf.constant(seed, tf.int64), tf.cast(number, tf.int64)])
    return tf.argsort(tf.random.stateless_uniform([count], pair, alg="philox"), stable=True)


def _in_memory(opened, source, shuffle, seed):
    """All records as one string tensor, read once, and a function: epoch -> dataset of indices."""
    count = len(opened.records)
    with readable(source.folder), tf.device("CPU"):
        records = _read(opened.files, opened.keep).batch(count).get_single_element()

    def epoch(number):
        order = _order(count, seed, number) if shuffle else tf.range(count)
        return tf.data.Dataset.from_tensor_slices(order)

    return records, epoch


def _from_disk(opened, block, seed):
    """A function: epoch -> dataset of records, in permuted blocks of that many (0 = in order).

    Not `Dataset.shuffle`: it takes no seed that differs by epoch once TensorFlow has a global seed.
    """

    def epoch(number):
        if not block:
            return _read(opened.files, opened.keep)
        order = _order(len(opened.files), seed, number)
        dataset = _read(tf.gather(opened.files, order), tf.gather(opened.keep, order))

        def mix(index, records):
            order = _order(tf.size(records), seed + 1, number * len(opened.records) + index)
            return tf.gather(records, order)

        return dataset.batch(block).enumerate().map(mix).unbatch()

    return epoch


def _parsed(dataset, source, opened, records, take):
    columns = None
    if list(source.classes) != list(opened.classes):  # a class the records do not know is column C: zeros
        columns = [
            opened.classes.index(n) if n in opened.classes else len(opened.classes) for n in source.classes
        ]

    def parse(batch):
        serialized = batch if records is None else tf.gather(records, batch)
        inputs, labels, ids, lengths = schema.parse_batch(
            serialized, source.rows, len(opened.classes), source.multi_label
        )
        if columns is not None:
            labels = tf.gather(tf.pad(labels, [[0, 0], [0, 1]]), columns, axis=1)
        return take(inputs, labels, ids, lengths)

    return raw.untuned(dataset.map(parse, raw.PARALLEL, deterministic=True).prefetch(raw.AHEAD))
