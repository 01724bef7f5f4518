"""Ready features of others, in .npz, .npy or .h5 files, into a folder of records that train reads."""

import math
import os
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from absl import flags

from tfvc import cli, files
from tfvc import recipe as recipes
from tfvc.encoders import CONVERTED, WEIGHTS
from tfvc.recipe import STREAMS, Feature, digest

CONVERSION = 2  # raise it whenever the same files would give other records

_DOC = """Converts ready features into records, which train takes as --data.

--data says which clips there are, with labels, groups and parts: a .csv or .jsonl manifest, or AVE's folder.
The videos need not be there. --features is one of:

  FOLDER                        <id>.npz with arrays frames (N, D) and audio (N, ...), or either of them;
                                or frames/<id>.npy and audio/<id>.npy. The name of the video does for the id.
  frames=A.npy,audio=B.h5       one array of the whole set for each stream, (clips, N, ...), its rows in the
                                order of the manifest or of Annotations.txt; also .npz

Pickled arrays are refused, as a pickle can run any code. Whoever trusts the file makes plain arrays of it:
  python -c "import numpy as np, pickle; d = pickle.load(open('x.pkl', 'rb')); np.savez('x.npz', **d)"

An array in another form than it should have stops, before anything is written: pickled, not (N, ...), of
another shape than the first one's, not of floats, or a file without arrays of these names. A clip is skipped,
and listed in skipped.csv, for what is wrong with it alone: no features, a damaged file, no rows, NaN or
infinite values, more than a record of 2 GiB holds; all clips so is an error. Clips that lack a stream are
listed in warnings.csv. Start the same command again after an interruption: it goes on where it stopped."""


def convert(dataset, features, *, out="", dtype="float32", pool=(), keep="", shard_clips=64, strict=False):
    """Writes ready features as records, or goes on with, or reuses, what is there.

    Args:
        dataset: `tfvc.data.datasets.Dataset`, of `load(..., media=False)`.
        features: a folder, or `stream=file,...`; see `python -m tfvc.convert --help`.
        out: folder of the records; "" = `<cache>/features/<dataset>-converted-<digest>`.
        dtype: that is stored, float32 or float16.
        pool: streams of maps `(N, h, w, C)` of which the mean over h and w is stored, `(N, C)`.
        keep: a file of class names: only clips of these classes are written; "" = all.
        shard_clips: clips a shard.
        strict: a clip that had to be skipped is an error, once all others are written.

    Returns:
        Path of the folder, whole: shards, `manifest.json`, `skipped.csv`, `warnings.csv`. What is wrong with
        one clip alone, as a damaged file, is skipped and listed; see `--help`.

    Raises:
        FileNotFoundError: no such features.
        ValueError: arrays that are pickled, or of another shape or dtype than the others, by their file;
            not one clip with features; `out` holds other records; or, if `strict`, anything was skipped.
    """
    from tfvc.data import arrays, datasets, shards

    source = _opened(features, dataset)
    kept = datasets.only(dataset, keep) if keep else dataset
    found, faults = {}, {}  # id -> the pieces of a clip; the reason why it is skipped unread
    for clip in kept.clips:
        try:
            found[clip.id] = source.find(clip)
        except arrays.Damaged as error:
            found[clip.id], faults[clip.id] = [], str(error)
    if faults and not any(found.values()):
        raise ValueError(f"{features}: no file can be read, as {next(iter(faults.values()))}")
    rows = _rows(found.values(), dtype, pool, features)
    absent = {id: "no features of this clip" for id, pieces in found.items() if not pieces}
    faults = absent | faults | _too_large(found, rows)
    if source.ignored:
        others = [f"{name} ({n} files)" for name, n in sorted(source.ignored.items())]
        print("arrays of other names are not read:", ", ".join(others))
    wanted = {
        "conversion": CONVERSION,
        **{WEIGHTS[row.name]: f"{CONVERTED} ({_named(features, row.name)})" for row in rows},
        "features": digest(sorted((id, [piece.mark for piece in pieces]) for id, pieces in found.items())),
        "dtype": dtype,
        "pool": ",".join(sorted(pool)),
        "data.shard_clips": shard_clips,
        "classes": digest(list(kept.classes)),
        "clips": f"{len(kept.clips)} clips, {kept.digest()}",
    }
    name = f"{kept.name}-converted-{digest(wanted)}".replace(os.sep, "_")
    folder = Path(out) if out else files.cache_root() / "features" / name
    with files.locked(folder, "converting into", wait=True):
        _write(folder, wanted, kept, found, faults, rows, shard_clips)
    manifest = shards.read_manifest(folder)
    listing = f" (see {files.shown(folder / 'skipped.csv')})" if manifest.skipped else ""
    if manifest.warnings:
        listing += f", {len(manifest.warnings)} without a stream (see {files.shown(folder / 'warnings.csv')})"
    print(
        f"converted {len(manifest.records)} clips, {len(manifest.skipped)} skipped{listing}: "
        f"{'; '.join(f'{row.name} {row.shape} {row.dtype}' for row in rows)}: {files.shown(folder)}"
    )
    if not manifest.records:
        raise ValueError(f"{folder}: not one clip could be converted; see {folder / 'skipped.csv'}")
    if strict and manifest.skipped:
        raise ValueError(f"--strict: {len(manifest.skipped)} clips were skipped; see {folder}/skipped.csv")
    return folder


@dataclass(frozen=True)
class _Piece:
    """The array of one stream of one clip: what its header says, and a function that reads it."""

    stream: str
    name: str  # of the file, for messages
    shape: tuple
    dtype: object
    mark: list  # what tells the bytes from others
    read: object = field(repr=False)


class _Folder:
    """`<id>.npz`, or `<stream>/<id>.npy`."""

    def __init__(self, root, dataset):
        self.root = root
        stems = defaultdict(set)
        for clip in dataset.clips:
            stems[Path(clip.path).stem].add(clip.path)
        self._alone = {stem for stem, paths in stems.items() if stem and len(paths) == 1}
        self.ignored = Counter()

    def find(self, clip):
        """The pieces of a clip; none where there is no file."""
        stem = Path(clip.path).stem  # two rows of one video, as in AVE, have the same features
        for name in dict.fromkeys([clip.id, *([stem] if stem in self._alone else [])]):
            pieces = list(self._pieces(name))
            if pieces:
                return pieces
        return []

    def _pieces(self, name):
        from tfvc.data import arrays

        path = self.root / f"{name}.npz"
        if os.path.isfile(path):  # no error where an id is too long for a name
            headers = arrays.headers(path)
            self.ignored.update(set(headers) - set(STREAMS))
            if not set(headers) & set(STREAMS):
                held = ", ".join(sorted(headers)) or "nothing"
                raise ValueError(f"{path}: holds {held}; expected arrays called {' or '.join(STREAMS)}")
            for stream in STREAMS:
                if stream in headers:
                    read = _reader(arrays.member, path, stream)
                    yield _Piece(stream, str(path), *headers[stream], files.fingerprint(path), read)
            return
        for stream in STREAMS:
            path = self.root / stream / f"{name}.npy"
            if os.path.isfile(path):
                header, read = arrays.headers(path, stream)[stream], _reader(arrays.whole, path, stream)
                yield _Piece(stream, str(path), *header, files.fingerprint(path), read)


class _Arrays:
    """One array of the whole set for each stream, row for row as the clips are listed."""

    def __init__(self, paths, dataset):
        from tfvc.data import arrays

        if dataset.kind not in ("manifest", "disaster", "ave"):
            given = ",".join(f"{stream}={path}" for stream, path in paths.items())
            raise ValueError(
                f"--features={given}: rows of one array need an order of clips; expected --data=a manifest "
                "or AVE's folder"
            )
        self._paths, self._read, self.ignored = paths, arrays.row, Counter()
        try:
            self._arrays = {stream: arrays.whole(path, stream) for stream, path in paths.items()}
        except arrays.Damaged as error:  # of all clips
            raise ValueError(str(error)) from None
        self._row = {clip.id: i for i, clip in enumerate(dataset.clips)}
        for stream, array in self._arrays.items():
            if array.ndim < 1 or len(array) != len(self._row):
                raise ValueError(
                    f"{paths[stream]}: {stream} is {tuple(array.shape)}; expected one row for each of the "
                    f"{len(self._row)} clips of {dataset.root}"
                )
        self._marks = {stream: files.fingerprint(path) for stream, path in paths.items()}

    def find(self, clip):
        """The pieces of a clip."""
        row = self._row[clip.id]
        return [
            _Piece(
                stream,
                f"{self._paths[stream]}, row {row}",
                tuple(array.shape[1:]),
                array.dtype,
                [row, *self._marks[stream]],
                _reader(self._read, self._paths[stream], array, row),
            )
            for stream, array in self._arrays.items()
        ]


def _reader(read, *arguments):
    return lambda: read(*arguments)


def _opened(features, dataset):
    """Where the features of a clip are found."""
    if "=" in features and not os.path.exists(features):
        pairs = [text.partition("=") for text in features.split(",")]
        paths = {stream.strip(): path.strip() for stream, _, path in pairs}
        if len(paths) < len(pairs) or not set(paths) <= set(STREAMS) or not all(paths.values()):
            raise ValueError(f"--features={features}: expected frames=FILE, audio=FILE, or both with a comma")
        return _Arrays({stream: paths[stream] for stream in STREAMS if stream in paths}, dataset)
    root = Path(features)
    if root.is_file():
        raise ValueError(f"--features={features}: a file; expected frames={features}, or audio={features}")
    if not root.is_dir():
        raise FileNotFoundError(f"{features}: no such folder; expected <id>.npz, or frames/<id>.npy, in it")
    return _Folder(root, dataset)


def _named(features, stream):
    """The files of a stream, as the manifest names them: not where they lie, but what they are called."""
    pairs = dict(text.strip().partition("=")[::2] for text in features.split(","))
    return os.path.basename(os.path.abspath(pairs.get(stream, features)))


def _rows(found, dtype, pool, features):
    """The rows of the records, from the headers of all arrays; one that is other than the first is named."""
    first = {}
    # np.array([]) has no rows, of whatever shape.
    for piece in (piece for pieces in found for piece in pieces if piece.shape != (0,)):
        if len(piece.shape) < 2 or 0 in piece.shape[1:]:
            expected = "(N, D), or (N, ...) with one row a frame or second"
            raise ValueError(f"{piece.name}: {piece.stream} is {piece.shape}; expected {expected}")
        if piece.dtype.kind != "f":
            raise ValueError(f"{piece.name}: {piece.stream} is {piece.dtype}; expected floats")
        other = first.setdefault(piece.stream, piece)
        if piece.shape[1:] != other.shape[1:]:
            expected = f"(N, {', '.join(map(str, other.shape[1:]))}) as in {other.name}"
            raise ValueError(f"{piece.name}: {piece.stream} is {piece.shape}; expected {expected}")
    if not first:
        raise FileNotFoundError(
            f"{features}: no features of these clips; expected <id>.npz with arrays frames and audio, or "
            "frames/<id>.npy and audio/<id>.npy"
        )
    for stream in pool:
        if stream not in first:
            raise ValueError(f"--pool={stream}: no such stream; there is {' and '.join(sorted(first))}")
        if len(first[stream].shape) != 4:
            raise ValueError(
                f"--pool={stream}: {first[stream].name} is {first[stream].shape}; expected maps (N, h, w, C)"
            )
    sizes = {s: piece.shape[-1:] if s in pool else piece.shape[1:] for s, piece in first.items()}
    return [Feature(stream, (None, *sizes[stream]), dtype) for stream in STREAMS if stream in first]


def _too_large(found, rows):
    """Clip id -> why it is skipped: what its headers say is judged before a byte of the arrays is read."""
    from tfvc.data import schema

    width = {row.name: schema.frame_bytes(row) + schema.FRAME_BYTES for row in rows}
    faults = {}
    for id, pieces in found.items():
        stored = sum(piece.shape[0] * width.get(piece.stream, 0) for piece in pieces)
        read = sum(math.prod(piece.shape) * piece.dtype.itemsize for piece in pieces)
        if max(stored, read) > schema.LARGEST:
            largest = max(pieces, key=lambda piece: math.prod(piece.shape))
            what = f"{largest.name}: {largest.stream} is {largest.shape}, "
            faults[id] = f"{what}more than a record of 2 GiB holds; cut the clip, or pool"
    return faults


def _write(folder, wanted, dataset, found, faults, rows, shard_clips):
    """Writes the shards that are missing."""
    from tfvc.data import schema, shards

    plan = shards.plan(dataset.clips, shard_clips)
    missing = [k for k in range(len(plan)) if not shards.done(folder, k)]
    if missing:
        _check_disk(folder, [found[c.id] for k in missing for c in plan[k] if c.id not in faults], rows)
    shards.open_folder(folder, wanted, dataset, rows, shard_clips)
    label = {name: i for i, name in enumerate(dataset.classes)}

    def records(clips, skipped, warnings):
        for clip in clips:
            bar.update()
            try:
                if clip.id in faults:
                    raise ValueError(faults[clip.id])
                features = {piece.stream: _array(piece, rows) for piece in found[clip.id]}
            except ValueError as error:
                skipped.append((clip.path or clip.id, str(error)))
                continue
            absent = [row.name for row in rows if row.name not in features]
            warnings += [(clip.path or clip.id, f"no {stream}") for stream in absent]
            labels = [label[name] for name in clip.labels]
            # One string a stream: a row of few numbers costs a protocol buffer many times its bytes.
            record = schema.serialize(clip.id, labels, features, rows, packed=True)
            yield clip.id, record, max(map(len, features.values()))

    if not missing:
        return
    with cli.progress(sum(len(plan[k]) for k in missing), 0, "clip") as bar:
        for k in missing:
            skipped, warnings = [], []  # filled while the records are drawn
            shards.write_shard(folder, k, records(plan[k], skipped, warnings), skipped, warnings)
    shards.finish(folder)


def _array(piece, rows):
    """The features of a piece as they are stored; ValueError without rows, or with NaN or infinite values."""
    import numpy as np

    if not piece.shape[0]:
        raise ValueError(f"{piece.name}: {piece.stream} has no rows")
    row = next(row for row in rows if row.name == piece.stream)
    array = np.asarray(piece.read())
    with np.errstate(over="ignore", invalid="ignore"):  # told below
        if array.ndim > len(row.shape):
            array = array.mean(axis=(1, 2), dtype="float64")
        array = array.astype(row.dtype, copy=False)
    if not np.isfinite(array).all():
        raise ValueError(f"{piece.name}: {piece.stream} has NaN or infinite values in {row.dtype}")
    return array


def _check_disk(folder, found, rows):
    """Too little room for the records is known before they are written."""
    from tfvc.data import schema

    width = {row.name: schema.frame_bytes(row) for row in rows}
    needed = sum(piece.shape[0] * width.get(piece.stream, 0) for pieces in found for piece in pieces)
    free = files.free_bytes(folder)
    if needed > free:
        raise ValueError(
            f"{folder}: about {needed / 1e9:.3g} GB are needed and {free / 1e9:.3g} GB are free; use "
            "--dtype=float16, --pool, or another --workdir"
        )


def main(argv=None):
    def run(arguments):
        from tfvc.data import datasets

        if not arguments.data or not arguments.features:
            raise cli.Usage("expected --data=a manifest or AVE's folder, and --features")
        lists = arguments.classes if arguments.kind == "kinetics_sounds" else ""  # it reads no others
        data = recipes.Data(kind=arguments.kind, classes=lists)
        dataset = datasets.load(data, arguments.data, media=False)
        if dataset.kind == "records":
            raise ValueError(f"{arguments.data}: records already; expected a manifest or AVE's folder")
        print("\n".join(dataset.notes), end="\n" * bool(dataset.notes))
        folder = convert(
            dataset,
            arguments.features,
            out=arguments.workdir,
            dtype=arguments.dtype,
            pool=tuple(filter(None, map(str.strip, arguments.pool))),
            keep=arguments.classes,
            strict=arguments.strict,
        )
        print(f"train: python -m tfvc.train --data={files.shown(folder)}")

    values = flags.FlagValues()
    flags.DEFINE_string("data", "", "which clips: a .csv or .jsonl manifest, or AVE's folder", values)
    flags.DEFINE_string("features", "", "a folder, or frames=FILE,audio=FILE; see above", values)
    flags.DEFINE_string("workdir", "", "folder of the records; empty: named by what is in them", values)
    kinds = ["auto", "manifest", "disaster", "ave", "kinetics_sounds", "ucf101", "folder"]
    flags.DEFINE_enum("kind", "auto", kinds, "what --data is", values)
    flags.DEFINE_enum("dtype", "float32", ["float32", "float16"], "of the stored features", values)
    flags.DEFINE_list("pool", [], "streams of maps (N, h, w, C) to average over h and w, as frames", values)
    flags.DEFINE_string("classes", "", "file of class names, one a line: only their clips", values)
    flags.DEFINE_boolean("strict", False, "exit with status 1 if any clip was skipped", values)
    cli.launch("tfvc.convert", values, _DOC, run, argv)


if __name__ == "__main__":
    main()
