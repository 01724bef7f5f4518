"""Shards by pattern -> batches: YouTube-8M's files, whoever wrote them, wherever they lie.

Records stay serialised until a few megabytes of them are parsed at once, while they are still in the
processor's cache; only then are batches made. No Python runs for a record, only for a file.

A damaged shard costs what is damaged. TensorFlow reads to the fault and leaves the file; records that do not
parse are left out with the few that are parsed with them. A function of ours, called at the end of each file,
compares the bytes parsed with the file's length; where they differ it looks the file through, names what is
wrong, and hands back the whole records that are missing. (`pipeline.py` is for folders with a manifest.)
"""

import contextlib
import math
import os
import re
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfvc import files as files_
from tfvc.data import inspection, raw, salvage, schema, sources
from tfvc.data.report import Report
from tfvc.data.sharing import ALONE
from tfvc.data.sources import files
from tfvc.names import suggest

ON_CORRUPT = ("skip", "stop")
_READ = 1 << 20  # bytes a read
_CHUNK = 4 << 20  # bytes of clips that are parsed at once
_DRAWN = 256 << 20  # bytes of clips to draw from
_PLACES = 1 << 16  # for clips to draw from, of each file: TensorFlow makes them all before it reads
_FILES = 8  # files open at once when shuffling
_AHEAD = 2  # chunks that each of them reads ahead
_LEFT = 32 << 20  # bytes of a file for each part of what was left out
_PEEK = 4  # files, and records of each, looked at before the first batch
_MARK = "\u2063"  # invisible; finds our line again in what TensorFlow makes of it


@dataclass(frozen=True)
class Records:
    """Records that lie in some files, and how they enter a model.

    Args:
        patterns: files, as `files` takes them.
        rows: `recipe.Feature` rows, all with their final shape.
        num_classes: C; None = labels are not looked at, and have no columns.
        segment_size: frames of a rated segment; 0 = whole clips.
    """

    patterns: str
    rows: list
    num_classes: int
    segment_size: int = 0


@tf.autograph.experimental.do_not_convert
def batches(
    records,
    batch_size,
    *,
    shuffle=False,
    seed=0,
    epochs=1,
    drop_remainder=False,
    on_corrupt="stop",
    report=None,
    first_step=0,
    share=ALONE,
):
    """Batches of records, prefetched.

    Without `shuffle` the order is that of the sorted files. With it, each epoch reads the files in an order
    of its own, eight at a time, and draws from some 256 MB of their records: a function of the seed and the
    epoch, and of nothing else. Batches run on over the end of an epoch. Whole records behind a damaged place,
    or read together with one that does not parse, come at the end of their file.

    Args:
        records: a Records.
        batch_size: clips a batch; segments, where segments are read.
        shuffle, seed: see above.
        epochs: passes over the records; None = without end.
        drop_remainder: whether a last, smaller batch is left out.
        on_corrupt: `skip` reads what is whole and reports the rest, each place once; `stop` raises.
        report: a Report to fill.
        first_step: batches to pass over. Where nothing may be damaged and the files lie here, unpacked, whole
            epochs are passed over unread; else all that comes before is read once more.
        share: the worker's; its part of each batch is what comes. By files, workers come to the end of an
            epoch each in its own time.

    Returns:
        `tf.data.Dataset` of `(inputs, labels, ids)`, for segments `(inputs, labels, ids, label_weights)`;
        `inputs` has a row's name -> `(B, T, ...)` or `(B, D)`, and for a stream of frames `<name>_length`:
        int32 `(B,)`, its real frames, 0 where the record lacks it.

    Raises:
        FileNotFoundError, ValueError: as `files`; an unknown `on_corrupt`; streams that the first records do
            not have. On the way, within `readable`: a fault, when told to stop; no whole record at all.
    """
    if on_corrupt not in ON_CORRUPT:
        raise ValueError(suggest("on_corrupt", on_corrupt, ON_CORRUPT))
    names = files(records.patterns)
    if share.by_file(len(names)):
        names, batch_size, share = share.own(names), batch_size // share.count, ALONE
    reader = _Reader(records, names, report or Report(), on_corrupt == "stop")
    if shuffle:  # a chunk is of one file
        reader.chunk = min(reader.chunk, 64)
    reader.check_streams()
    done = first_step * batch_size
    count = reader.count() if done and on_corrupt == "stop" and not records.segment_size else None
    first, done = divmod(done, count) if count else (0, done)
    dataset = tf.data.Dataset.range(first, np.iinfo(np.int64).max if epochs is None else epochs)
    dataset = reader.parsed(dataset.flat_map(lambda epoch: reader.chunks(epoch, seed, shuffle)))
    if shuffle and records.segment_size:  # segments of one clip lie side by side
        dataset = raw.shuffled(dataset.unbatch(), 16 * batch_size, seed, 0).batch(batch_size)
    if done:
        dataset = dataset.scan(tf.constant(done, tf.int64), _pass_over)
    return raw.untuned(share.of(dataset.rebatch(batch_size, drop_remainder)).prefetch(raw.AHEAD))


@contextlib.contextmanager
def readable():
    """Around whatever iterates over batches: where reading stops, the file and the place are named.

    Raises:
        ValueError: in place of TensorFlow's error.
    """
    try:
        yield
    except tf.errors.OpError as error:
        match = re.search(f"{_MARK}(.*?){_MARK}", str(error), re.DOTALL)
        if not match:
            raise
        raise ValueError(match[1]) from None


class _Reader:
    """What `batches` does in the graph, and the functions called from there, twice a file."""

    def __init__(self, records, names, report, stop):
        self.records, self.files, self.report, self.stop = records, names, report, stop
        self.copies = sources.Copies()
        self.opened = {}  # file -> what `sources.locate` says
        self.surveyed = {}  # file -> _Surveyed, where something was left out
        self.over, self.any_whole = set(), False
        self.nothing = None  # what no record at all is parsed to
        size = sum(math.prod(row.shape) * tf.as_dtype(row.dtype).size for row in records.rows)
        self.chunk = min(max(_CHUNK // size, 1), 256)
        self.window = min(max(_DRAWN // size // min(_FILES, len(names)), 64), _PLACES)

    # --- in the graph

    def chunks(self, epoch, seed, shuffle):
        """Some records at a time: `(file, part, (ordinals, records))`; empty chunks, in parts, end a file.

        A file's own datasets have no functions: to start one takes milliseconds.
        """
        count = len(self.files)
        order = tf.data.Dataset.range(count)
        if shuffle:
            pair = tf.stack([tf.constant(seed, tf.int64), epoch])
            mixed = tf.argsort(tf.random.stateless_uniform([count], pair, alg="philox"), stable=True)
            order = tf.data.Dataset.from_tensor_slices(tf.cast(mixed, tf.int64))

        def opened(index):
            return index, *_call(self._open, [index], (tf.string, []), (tf.string, []), (tf.int64, []))

        def file(index, path, kind, parts):
            numbered = raw.stored(path, kind, _READ).ignore_errors().enumerate()
            if shuffle:
                numbered = raw.shuffled(numbered, self.window, seed, epoch * count + index)
            here = tf.data.Dataset.from_tensors(index).repeat()
            nothing = tf.data.Dataset.from_tensors((tf.zeros([0], tf.int64), tf.zeros([0], tf.string)))
            end = tf.data.Dataset.zip((here, tf.data.Dataset.range(parts), nothing.repeat(parts)))
            return tf.data.Dataset.zip((here, here, numbered.batch(self.chunk))).concatenate(end)

        order = order.map(opened)
        if not shuffle:
            return order.flat_map(file)
        # Each file reads ahead on its own. With `num_parallel_calls`, twice as many files again would lie
        # opened behind these, each with its window filled: three times the memory, for the same order.
        return order.interleave(lambda *opened: file(*opened).prefetch(_AHEAD), _FILES)

    def parsed(self, chunks):
        """Chunks parsed; of those that do not parse, what is whole comes at the end of the file."""

        def parse(index, part, numbered):
            ordinals, records = numbered
            sizes = tf.cast(tf.strings.length(records), tf.int64) + salvage.FRAMING
            known = tf.stack([tf.fill(tf.shape(ordinals), index), ordinals, sizes], 1)
            return index, part, known, self._parse(records, certain=True)

        def follow(state, chunk):  # state: rows of (file, ordinal, bytes) of what was parsed
            index, part, known, outputs = chunk

            def left():  # in Python: as operations it would take a tenth of a second to trace
                flat = tf.nest.flatten(outputs)
                shapes = [(tf.int64, [None, 3]), *((t.dtype, t.shape) for t in flat)]
                rest, *values = _call(self._left, [index, part, raw.rows_of(state)], *shapes)
                return raw.with_rows(raw.no_rows(), rest), tf.nest.pack_sequence_as(outputs, values)

            return tf.cond(tf.size(known) > 0, lambda: (raw.with_rows(state, known), outputs), left)

        parsed = chunks.map(parse, raw.PARALLEL, deterministic=True).ignore_errors()
        outputs = parsed.scan(raw.no_rows(), follow)
        return outputs.filter(lambda inputs, labels, *_: tf.shape(labels)[0] > 0)

    def _parse(self, records, certain=False):
        rows, classes, size = self.records.rows, self.records.num_classes, self.records.segment_size
        if size:
            inputs, labels, ids, lengths, *weights = schema.parse_segments(records, rows, classes, size)
        else:
            inputs, labels, ids, lengths, *weights = schema.parse_batch(records, rows, classes, True)
        if classes is None:
            labels = tf.zeros([tf.shape(ids)[0], 0])
        if certain and not size:  # a record without anything asked for may be of another schema
            there = [length > 0 for length in lengths.values()]
            there += [tf.reduce_any(inputs[row.name] != 0, 1) for row in rows if len(row.shape) == 1]
            ids = schema.checked(ids, tf.reduce_all(tf.reduce_any(tf.stack(there), 0)), "nothing asked for")
        return inputs | {f"{name}_length": n for name, n in lengths.items()}, labels, ids, *weights

    # --- called from the graph

    def _located(self, index):
        """What `sources.locate` says of a file, asked once."""
        if index not in self.opened or not tf.io.gfile.exists(self.opened[index][0]):  # gone meanwhile
            self.opened[index] = sources.locate(self.files[index], self.copies)
        return self.opened[index]

    def _open(self, index):
        """Path and compression of a file, and in how many parts to hand back what was left out."""
        path, zipped, length = self._located(index)
        # Told to pass over errors, TensorFlow would try to open it for ever, or die of it; `_left` says why.
        if length < 0 or not sources.harmless(path, zipped):
            path = os.devnull
        return path, "GZIP" if zipped else "", np.int64(1 + max(length, 0) // _LEFT)

    def _left(self, index, part, state):
        """The whole records of a file among those that were not parsed: a part of them, parsed.

        Args:
            index: of the file.
            part: which part, of as many as `_open` said.
            state: (K, 3), of all that was parsed of the files that are open: file, ordinal as TensorFlow read
                it, bytes in the file.

        Returns:
            The state, after the last part without this file's; and the values of `_parse`, flat.
        """
        mine = state[:, 0] == index
        ordinals, size = state[mine, 1], int(state[mine, 2].sum())
        parts, found = int(self._open(index)[2]), []
        if not size or size != self.opened[index][2]:
            try:
                found = self._unparsed(index, set(ordinals.tolist()))
            except (tf.errors.OpError, OSError) as error:
                reason = f"cannot be read ({sources.why(self.files[index], error)})"
                self.report.add(self.files[index], 0, reason, self.stop)
        self.any_whole |= bool(found) or size > 0
        self.over.add(index)
        if (
            len(self.over) == len(self.files) and not self.any_whole
        ):  # with epochs=None it would go on for ever
            count = f"{len(self.files)} file{'s'[: len(self.files) > 1]}"
            raise ValueError(f"{self.named()}: no whole record in {count}; give others")
        offsets = found[part::parts]
        values = self._eager([salvage.record(self.surveyed[index].path, offset) for offset in offsets])
        return state[~mine] if part + 1 == parts else state, *values

    def _eager(self, records):
        if not records and self.nothing is not None:  # of every file that is whole
            return self.nothing
        outputs = self._parse(tf.constant(records, tf.string, [len(records)]))
        values = [value.numpy() for value in tf.nest.flatten(outputs)]
        if not records:
            self.nothing = values
        return values

    def _unparsed(self, index, known):
        if index not in self.surveyed:
            self.surveyed[index] = self._survey(index, known)
        surveyed = self.surveyed[index]
        return [offset for n, offset in enumerate(surveyed.offsets) if n not in surveyed.bad | known]

    def _survey(self, index, known):
        """Tells what is wrong with a file. `known` records have been parsed, so they are whole."""
        name = self.files[index]
        faults, path, offsets = sources.look_through(name, self.opened[index], known, self.copies)
        for offset, reason in faults:
            self.report.add(name, offset, reason, self.stop)
        bad = set()
        for n, offset in enumerate(offsets):
            reason = None if n in known else self._reason(salvage.record(path, offset))
            if reason is not None:
                bad.add(n)
                self.report.add(name, offset, reason, self.stop)
        return _Surveyed(path, offsets, bad)

    def _reason(self, record):
        """What is wrong with a record, or None."""
        reason = inspection.fault(
            record, self.records.rows, self.records.num_classes, self.records.segment_size
        )
        if reason is None:
            try:
                self._parse(tf.constant([record]))
            except tf.errors.OpError as error:
                reason = files_.first_line(error)
        return reason

    # --- before the first batch

    def named(self):
        """The patterns, or of a list of files the first."""
        if isinstance(self.records.patterns, str):
            return self.records.patterns
        more = len(self.files) - 1
        return f"{self.files[0]}{f' and {more} more' if more else ''}"

    def count(self):
        """How many records the files hold by their framing, or None where that takes reading them."""
        located = [self._located(index) for index in range(len(self.files))]
        if any(zipped or length < 0 or "://" in path for path, zipped, length in located):
            return None
        return sum(salvage.count(path) for path, _, _ in located)

    def check_streams(self):
        """Refuses streams of which no first record has any, or has any of this size, and says which are
        missing: a wrong flag is told before the whole set is read.

        Raises:
            ValueError: what the records hold instead is named.
        """
        held, count = {}, 0
        for index in range(min(_PEEK, len(self.files))):
            for record in sources.head(self._located(index), _PEEK):
                with contextlib.suppress(ValueError):
                    for name, width in inspection.streams(record).items():
                        held.setdefault(name, set()).add(width)
                    count += 1
        names = [row.name for row in self.records.rows]
        absent = [name for name in names if name not in held]
        first = f"(seen in the first {count} records)"
        for row in self.records.rows:
            found, wanted = held.get(row.name, set()) - {None}, inspection.width(row)
            if found and wanted not in found:
                sizes = " or ".join(map(str, sorted(found)))
                raise ValueError(f"{self.named()}: {row.name} has size {sizes}, not {wanted} {first}")
        if not held or not absent:
            return
        if len(absent) == len(names):
            raise ValueError(f"{self.named()}: {suggest('stream', absent[0], sorted(held))} {first}")
        print(f"{self.named()}: no {', '.join(absent)} {first}; read as masked", flush=True)


@dataclass(frozen=True)
class _Surveyed:
    """A file looked through: where its records lie, which of them (by number) are bad."""

    path: str  # of the file, unpacked
    offsets: list
    bad: set


def _pass_over(left, batch):
    """One step of passing over `left` rows: what is still left, and the rest of the batch."""
    here = tf.minimum(left, tf.cast(tf.shape(batch[1])[0], tf.int64))
    return left - here, tf.nest.map_structure(lambda values: values[here:], batch)


def _call(function, inputs, *outputs):
    """Calls a Python function from the graph; `outputs` are `(dtype, shape)`."""

    def run(*values):
        try:
            values = function(*(value.item() if value.ndim == 0 else value for value in values))
        except ValueError as error:
            raise ValueError(f"{_MARK}{error}{_MARK}") from None
        values = values if isinstance(values, tuple) else (values,)
        return [value.encode() if isinstance(value, str) else value for value in values]

    results = tf.numpy_function(run, inputs, [dtype for dtype, _ in outputs], stateful=True)
    for value, (_, shape) in zip(results, outputs, strict=True):
        value.set_shape(shape)
    return results[0] if len(results) == 1 else tuple(results)
