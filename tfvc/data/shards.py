"""A folder of records: numbered shards, a manifest that never claims what is not whole.

    manifest.json          what was extracted, with which settings; `complete` once all is there
    shard-00000.tfrecord   records of `schema.serialize`
    shard-00000.json       its size, checksum, records and skipped clips; written after it
    skipped.csv            path,reason of every clip that could not be read
    warnings.csv           path,warning of every clip that is damaged or lacks a stream

Every file is written aside and renamed, and none holds a time or a duration: a run that was killed and
started again leaves the same bytes as one that was not.
"""

import csv
import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tfvc import files
from tfvc.recipe import check_classes, differences, rows_of
from tfvc.recipe import digest as digest_of

FORMAT = "tfvc-records-1"
MANIFEST = "manifest.json"
_SHARD = {"file": str, "bytes": int, "sha256": str, "records": list}
_HEAD = {"digest": str, "settings": dict, "dataset": str, "classes": list, "multi_label": bool}
_HEAD |= {"clips": int, "shard_count": int, "complete": bool}
_RECORD = {"id": str, "frames": int, "bytes": int, "labels": list, "group": str, "part": str}
_AGAIN = "start the same command again to go on"


@dataclass(frozen=True)
class Manifest:
    """`manifest.json`, read."""

    folder: Path
    digest: str  # of the settings
    settings: dict  # flat; what determines the bytes of the shards
    dataset: str
    classes: list  # class names in label order
    multi_label: bool
    features: list  # recipe.Feature rows, first axis None
    clips: int  # clips asked for, the skipped ones among them
    shard_count: int
    shards: list  # [{file, bytes, sha256, records: [{id, frames, bytes, labels, group, part}]}]
    skipped: list  # [(path, reason)]
    warnings: list  # [(path, what of it is missing or damaged)]
    complete: bool
    vocabulary: list = field(default_factory=list)  # words that the numbers of the stream text stand for

    @property
    def records(self):
        """Every record's `{id, frames, bytes, labels, group, part}`, in reading order."""
        return [record for shard in self.shards for record in shard["records"]]

    @property
    def ids(self):
        """The ids of the clips that were really extracted, in reading order."""
        return [record["id"] for record in self.records]


def plan(clips, shard_clips):
    """Clips sorted by the SHA-1 of their id, cut into shards.

    So a shard mixes the classes, reading the shards in order is a fixed shuffle, and neither depends
    on the order in which a folder lists its files.

    Example:
        >>> from types import SimpleNamespace as Clip
        >>> [[c.id for c in shard] for shard in plan([Clip(id="a"), Clip(id="b"), Clip(id="c")], 2)]
        [['c', 'a'], ['b']]
    """
    ordered = sorted(clips, key=lambda clip: hashlib.sha1(clip.id.encode()).digest())
    return [ordered[k : k + shard_clips] for k in range(0, len(ordered), shard_clips)]


def open_folder(folder, settings, dataset, features, shard_clips, vocabulary=()):
    """Creates the folder of records, or checks that the one there is of the same settings.

    Args:
        folder: where; made if need be.
        settings: flat JSON-able dict of all that determines the bytes of the records.
        dataset: a `datasets.Dataset`; its classes, labels and groups go into the manifest.
        features: `recipe.Feature` rows of the records.
        shard_clips: clips a shard; `plan(dataset.clips, shard_clips)` says which.
        vocabulary: words that the numbers of the stream text stand for; () = none.

    Returns:
        The Manifest. `complete` is True only if every shard is there in full size.

    Raises:
        ValueError: the folder holds something else, or records of other settings (the differences
            are named).
    """
    folder = Path(folder)
    settings = json.loads(json.dumps(settings))  # as they will be read back: tuples are lists
    tree = {
        "format": FORMAT,
        "digest": digest_of(settings),
        "settings": settings,
        "dataset": dataset.name,
        "classes": list(dataset.classes),
        "multi_label": dataset.multi_label,
        "features": [asdict(row) | {"shape": [None, *row.shape[1:]]} for row in features],
        "clips": len(dataset.clips),
        "shard_count": -(-len(dataset.clips) // shard_clips),
    } | ({"vocabulary": list(vocabulary)} if vocabulary else {})
    index = {name: i for i, name in enumerate(tree["classes"])}
    about = {c.id: [[index[n] for n in c.labels], c.group, c.part] for c in dataset.clips}
    if not (folder / MANIFEST).is_file():
        if folder.is_dir() and any(not p.name.startswith(f".{MANIFEST}.") for p in folder.iterdir()):
            raise ValueError(f"{folder}: not a folder of records, and not empty; expected another folder")
        files.write_json(folder / MANIFEST, tree | {"complete": False, "about": about})
    old = _tree(folder)
    if old["digest"] != tree["digest"]:
        raise ValueError(
            f"{folder}: holds records of other settings; expected the same, or another folder "
            f"({'; '.join(differences(old['settings'], settings))})"
        )
    other = differences({k: old.get(k) for k in tree}, tree)
    if other:
        raise ValueError(
            f"{folder}: holds records of another data set ({'; '.join(other)[:500]}); give another folder"
        )
    files.sweep(folder)
    whole = all(done(folder, k) for k in range(tree["shard_count"]))
    if whole and not old["complete"]:  # killed between the last shard and the manifest
        return finish(folder)
    if old["complete"] and not whole:
        print(f"{folder}: a shard is missing or cut short; it is written again")
        old = tree | {"complete": False, "about": about}
        files.write_json(folder / MANIFEST, old)
    return _manifest(folder, old)


def done(folder, index):
    """Whether shard `index` is there in full size."""
    folder = Path(folder)
    side = folder / f"{_name(index)}.json"
    shard = folder / f"{_name(index)}.tfrecord"
    if not (side.is_file() and shard.is_file()):
        return False
    entry = files.read_json(side, "remove it, and start the same command again")
    return isinstance(entry, dict) and shard.stat().st_size == entry.get("bytes")


def write_shard(folder, index, records, skipped, warnings=()):
    """Writes one shard and, once it lies there whole, its entry.

    Args:
        folder: a folder that `open_folder` made.
        index: number of the shard in the plan.
        records: iterable of `(clip_id, serialized bytes, frames)`; consumed as it is written.
        skipped: list of `(path, reason)`; read after the last record, so that whoever yields the
            records may fill it on the way.
        warnings: list of `(path, warning)`, likewise.

    Raises:
        ValueError: an id that the folder was not opened with.
    """
    import tensorflow as tf

    folder = Path(folder)
    about = _tree(folder).get("about")
    if about is None:
        raise ValueError(f"{folder}: complete already; nothing is written into it")
    entries = []
    shard = folder / f"{_name(index)}.tfrecord"
    with files.aside(shard) as temporary:
        with tf.io.TFRecordWriter(str(temporary)) as writer:
            for clip_id, serialized, frames in records:
                if clip_id not in about:
                    raise ValueError(f"{folder}: clip {clip_id!r} is not of the data set it was opened with")
                labels, group, part = about[clip_id]
                writer.write(serialized)
                entry = {"id": clip_id, "frames": int(frames), "bytes": len(serialized)}
                entries.append(entry | {"labels": labels, "group": group, "part": part})
        checksum, size = files.sha256(temporary), temporary.stat().st_size
    side = {"file": shard.name, "bytes": size, "sha256": checksum, "records": entries}
    for key, pairs in (("skipped", skipped), ("warnings", warnings)):
        side[key] = [[str(path), str(reason)] for path, reason in pairs]
    files.write_json(folder / f"{_name(index)}.json", side)


def finish(folder):
    """Writes `skipped.csv`, `warnings.csv` and the complete manifest from the shards' entries.

    Raises:
        ValueError: a shard is still missing.
    """
    folder = Path(folder)
    tree = _tree(folder)
    missing = [k for k in range(tree["shard_count"]) if not done(folder, k)]
    if missing:
        raise ValueError(f"{folder}: {len(missing)} of {tree['shard_count']} shards are missing; {_AGAIN}")
    sides = _sides(folder, tree["shard_count"])
    lists = {}
    for key, column in (("skipped", "reason"), ("warnings", "warning")):
        lists[key] = sorted(row for side in sides for row in side.pop(key, []))
        with (
            files.aside(folder / f"{key}.csv") as temporary,
            open(temporary, "w", encoding="utf-8", errors="backslashreplace", newline="") as f,
        ):
            csv.writer(f, lineterminator="\n").writerows([["path", column], *lists[key]])
    tree = {k: v for k, v in tree.items() if k not in ("about", "shards", *lists)}
    tree |= {"complete": True, "shards": sides, **lists}
    files.write_json(folder / MANIFEST, tree)
    return _manifest(folder, tree)


def read_manifest(folder):
    """The manifest of a complete folder of records.

    Raises:
        FileNotFoundError: no manifest there.
        ValueError: not of this format, or the extraction has not finished.
    """
    folder = Path(folder)
    manifest = _manifest(folder, _tree(folder))
    if not manifest.complete:
        there = sum(done(folder, k) for k in range(manifest.shard_count))
        raise ValueError(f"{folder}: {there} of {manifest.shard_count} shards are extracted; {_AGAIN}")
    return manifest


def check_sizes(manifest, shards=None):
    """Compares the size of each shard with the manifest: cheap, done whenever records are opened.

    Raises:
        ValueError: a shard is missing or of another size; the message names it.
    """
    for shard in manifest.shards if shards is None else shards:
        path = manifest.folder / shard["file"]
        size = path.stat().st_size if path.is_file() else None
        if size != shard["bytes"]:
            what = "missing" if size is None else f"{size} bytes, expected {shard['bytes']}"
            raise ValueError(f"{path}: {what}; start the command that extracted it again")


def verify(folder):
    """Compares the SHA-256 of each shard with the manifest: reads everything.

    Raises:
        ValueError: a shard is damaged; the message names each.
    """
    manifest = read_manifest(folder)
    check_sizes(manifest)
    bad = [s["file"] for s in manifest.shards if files.sha256(manifest.folder / s["file"]) != s["sha256"]]
    if bad:
        remedy = "remove it and start the command that extracted it again"
        raise ValueError(
            "; ".join(f"{manifest.folder / name}: damaged (checksum)" for name in bad) + f"; {remedy}"
        )


def is_records(folder):
    """Whether a folder holds (or begins to hold) records of ours."""
    path = Path(folder) / MANIFEST
    if not path.is_file():
        return False
    with open(path, "rb") as f:
        return f.read(64).find(FORMAT.encode()) > 0


def _name(index):
    return f"shard-{index:05d}"


def _sides(folder, count):
    return [files.read_json(folder / f"{_name(k)}.json") for k in range(count) if done(folder, k)]


def _tree(folder):
    tree = files.read_json(folder / MANIFEST, "expected a folder that python -m tfvc.extract wrote")
    if not isinstance(tree, dict) or tree.get("format") != FORMAT:
        raise ValueError(f"{folder / MANIFEST}: expected format {FORMAT!r}; extract the clips again")
    return tree


def _shard(index, shard, classes):
    """A shard's entry; what was edited is refused here, before it is read elsewhere as something else."""
    if shard["file"] != f"{_name(index)}.tfrecord":  # nothing outside the folder
        raise ValueError(f"shard {index} is {shard['file']!r}")
    for record in shard["records"]:
        kinds = {key: type(record[key]) for key in _RECORD}
        if kinds != _RECORD or record["frames"] < 0 or record["bytes"] < 0:
            raise ValueError(f"record {record!r}")
        if any(type(label) is not int or not 0 <= label < classes for label in record["labels"]):
            what = f"clip {record['id']!r} has labels {record['labels']}"
            raise ValueError(f"{what}; expected 0..{classes - 1}")
    return {key: kind(shard[key]) for key, kind in _SHARD.items()}


def _manifest(folder, tree):
    try:
        head = {key: tree[key] for key in _HEAD}
        if {key: type(value) for key, value in head.items()} != _HEAD:
            raise TypeError("a field of another type")
        check_classes(head["classes"])
        vocabulary = list(tree.get("vocabulary", []))
        check_classes(vocabulary)
        if digest_of(vocabulary) != head["settings"].get("text.vocabulary", digest_of(vocabulary)):
            raise ValueError("a vocabulary that is not the one of its settings")
        classes = len(head["classes"])
        manifest = Manifest(
            folder=Path(folder),
            features=rows_of(tree["features"]),
            shards=[_shard(k, shard, classes) for k, shard in enumerate(tree.get("shards", []))],
            skipped=[tuple(row) for row in tree.get("skipped", [])],
            warnings=[tuple(row) for row in tree.get("warnings", [])],
            vocabulary=vocabulary,
            **head,
        )
        if len(set(manifest.ids)) < len(manifest.ids):
            raise ValueError("two records of one id")
        return manifest
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(
            f"{folder / MANIFEST}: not a manifest of this version ({error!r}); extract the clips again"
        ) from None
