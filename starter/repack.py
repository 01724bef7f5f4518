"""Shards rewritten with one string a stream, which are read faster: `python -m starter.repack`."""

import contextlib
import os
import sys
from pathlib import Path

if not __package__:  # run as a file: `starter` is found from the root, nothing of it by its bare name
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from starter import flags
from tfvc import cli, files

_DOC = """Rewrites shards of frame-level records, segments included, so that each stream is one string and not
one a frame. For sets that are read many times: the readers take both forms, without a flag, and give the same
batches. The shards keep their names; those that are in the output folder already are kept."""

FLAGS = {
    "input_data_pattern": ("string", "", "the shards, as yt8m/frame/train*.tfrecord; several with commas"),
    "output_dir": ("string", "", "folder for the new shards; not the one of the old ones"),
    "feature_names": ("string", "rgb,audio", "the streams to join, separated by commas"),
    "feature_sizes": ("string", "1024,128", "their widths, bytes a frame, in the same order"),
    "on_corrupt": flags.reading(1, 1, "skip")["on_corrupt"],
}
_ANY = 2**63  # no label is refused here for being too large
_READ = 1 << 20  # bytes a read


def repack(pattern, output_dir, feature_names=("rgb", "audio"), feature_sizes=(1024, 128), on_corrupt="skip"):
    """Rewrites shards, one after the other, each whole or not at all.

    **Source** ours; the starter code has no such program.

    Everything else in a record stays as it is: ids, labels, segments, streams that are not named, frames past
    300. A record that lacks a stream still lacks it. Zipped shards stay zipped. Shards that are in the output
    folder are kept, so a run that was killed goes on with the same command.

    Args:
        pattern: the shards, as `tfvc.data.records.files` takes them. They are only read.
        output_dir: folder of the new shards; made if need be.
        feature_names, feature_sizes: the streams to join and their bytes a frame, as `starter.models.rows`
            takes them.
        on_corrupt: `skip` leaves out what is damaged and reports it; `stop` raises.

    Returns:
        `(records, shards, kept, report)`: how many records in how many shards were written, how many shards
        were kept, and a `tfvc.data.records.Report`.

    Raises:
        ValueError: an output folder that holds a source, or is none; two sources of one name; a fault, when
            told to stop; no whole record in any shard.
        FileNotFoundError: a pattern that matches nothing.

    Example:
        >>> repack("nowhere/train*.tfrecord", "packed")
        Traceback (most recent call last):
        FileNotFoundError: nowhere/train*.tfrecord: no such file; expected ...
    """
    from starter import models
    from tfvc.data import records, sources
    from tfvc.names import suggest

    if on_corrupt not in records.ON_CORRUPT:
        raise ValueError(suggest("on_corrupt", on_corrupt, records.ON_CORRUPT))
    rows = models.rows(feature_names, feature_sizes, True, max_frames=None)
    targets = _targets(records.files(pattern), os.fspath(output_dir))
    report, copies = records.Report(), sources.Copies()

    def fault(source, offset, reason):
        report.add(source, offset, reason, stop=on_corrupt == "stop")

    total, written, kept = 0, 0, 0
    with files.locked(output_dir, "writing into"), cli.progress(len(targets), 0, "shard") as bar:
        files.sweep(output_dir)
        for source, target in targets.items():
            if target.exists():
                kept += 1
            else:
                count = _shard(source, target, rows, copies, fault)
                total, written = total + count, written + bool(count)
            bar.update()
    if not written and not kept:
        raise ValueError(f"{pattern}: no whole record in {len(targets)} shards; nothing was written")
    return total, written, kept, report


def _targets(names, folder):
    """Source -> target, of all sources."""
    if "://" in folder:
        raise ValueError(f"output_dir={folder}: expected a local folder; copy it there afterwards")
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise ValueError(f"output_dir={folder}: is a file; expected a folder")
    taken = {}
    for name in names:
        where, base = os.path.split(name)
        if base in taken:
            raise ValueError(
                f"{files.shown(taken[base])}, {files.shown(name)}: both would be {base} in {folder}; "
                "repack each folder into one of its own"
            )
        if "://" not in name and os.path.realpath(where) == os.path.realpath(folder):
            raise ValueError(
                f"output_dir={folder}: holds {files.shown(base)}, which is to be read; give another folder"
            )
        taken[base] = name
    return {name: Path(os.path.abspath(folder)) / base for base, name in taken.items()}


class _NothingError(Exception):
    """There is nothing to write."""


def _shard(source, target, rows, copies, fault):
    """Writes one shard; returns how many records it has. One without any is not written."""
    import tensorflow as tf

    from tfvc.data import inspection, sources

    located = sources.locate(source, copies)
    names, held, count = [row.name for row in rows], set(), 0
    with contextlib.suppress(_NothingError), files.aside(target) as temporary:
        with tf.io.TFRecordWriter(str(temporary), "GZIP" if located[1] else "") as writer:
            for offset, record, where in _whole(source, located, copies, fault):
                wrong = inspection.fault(record, rows, _ANY)
                if wrong:
                    fault(source, offset, wrong + where)
                    continue
                held |= inspection.streams(record).keys()
                writer.write(_packed(record, names))
                count += 1
        if held and held.isdisjoint(names):
            fault(source, 0, f"no record holds {' or '.join(names)}, but {', '.join(sorted(held))}")
            count = 0
        if not count:
            raise _NothingError
    return count


def _packed(record, names):
    """The record with each of the named streams as one string of its context."""
    import tensorflow as tf

    example = tf.train.SequenceExample.FromString(record)
    context, lists = example.context.feature, example.feature_lists.feature_list
    for name in names:
        # A record may hold a stream in both forms; the readers then take the string, unless it is empty.
        if name in lists and not (name in context and any(context[name].bytes_list.value)):
            frames = b"".join(frame.bytes_list.value[0] for frame in lists[name].feature)
            context[name].bytes_list.value[:] = [frames]
            del lists[name]
    if not lists:
        example.ClearField("feature_lists")
    return example.SerializeToString(deterministic=True)


def _whole(source, located, copies, fault):
    """Yields `(offset, record, where)` of every whole record; what is damaged goes to `fault`.

    TensorFlow reads to the first damaged place; from there on the checksums tell what is whole. `located`:
    of `sources.locate`.
    """
    import tensorflow as tf

    from tfvc.data import raw, salvage, sources

    path, zipped, size = located
    at, count, where = 0, 0, " (in the unpacked file)" if zipped else ""
    first = path if size < 0 or sources.harmless(path, zipped) else os.devnull
    with contextlib.suppress(tf.errors.OpError):
        stored = raw.untuned(raw.stored(first, "GZIP" if zipped else "", _READ))
        for record in stored.as_numpy_iterator():
            yield at, record, where
            at, count = at + len(record) + salvage.FRAMING, count + 1
    if at == size > 0:
        return
    try:
        faults, path, offsets = sources.look_through(source, located, range(count), copies)
    except (tf.errors.OpError, OSError) as error:
        faults, offsets = [(0, sources.why(source, error) + where)], []
    for offset, text in faults:
        fault(source, offset, text)
    for offset in offsets[count:]:
        yield offset, salvage.record(path, offset), where


def main(argv=None):
    """The command; see the module."""

    def run(arguments):
        for name in ("input_data_pattern", "output_dir"):
            if not getattr(arguments, name):
                raise cli.Usage(f"--{name} is needed. See python -m starter.repack --help")
        given = flags.chosen(arguments, FLAGS)
        total, written, kept, report = repack(given.pop("input_data_pattern"), **given)
        if report.faults:
            print(report.summary())
        folder = files.shown(arguments.output_dir)
        if kept:
            print(f"kept: {kept} shards that {folder} had; remove a shard there to write it anew")
        print(f"repacked: {written} shards, {total} records: {folder}")

    flags.command("starter.repack", _DOC, FLAGS, run, argv)


if __name__ == "__main__":
    main()
