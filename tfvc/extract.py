"""Raw videos to a folder of records: decode, one network call for many frames, TFRecord shards.

Frames of many clips share a network call, and clips are decoded in threads while the network runs.
No network call crosses a shard, so a run that was killed goes on to the very same bytes.
"""

import contextlib
import math
import os
import sys
import time
from pathlib import Path

from tfvc import cli, files
from tfvc import encoders as networks
from tfvc.recipe import differences, digest, flatten, read_by, streams

# Raise it whenever the same settings would give other records: another rule of which frames are kept,
# another scaler, another order of bytes. Features that are there already are then not used again.
EXTRACTION = 1

_SAMPLE = 32  # clips whose duration is looked up to estimate the disk
_RECORD_BYTES = 96  # framing, id and labels of one record
_SMALLER = "lower data.fps, pool the features, or cut the clip"
_MADE_BY = {  # stream -> what records and run must have in common, or the model would meet other features
    "frames": (
        "data.sampling",
        "data.fps",
        "data.pool",
        "data.channel_order",
        "data.interpolation",
        "backbone.name",
        "backbone.preprocessing",
        "backbone.size",
        "backbone.pooling",
        "backbone.precision",
        "backbone.dtype",
    ),
    "audio": ("audio.name", "audio.output", "audio.after_relu", "audio.dtype"),
    "text": ("text.embedding", "text.words", "text.dtype"),
}
_SINCE = {"data.pool": "none", "data.sampling": "fps", "audio.after_relu": True}

_DOC = """Extracts features of pictures and sound from videos into TFRecord shards.

Start the same command again after an interruption: it goes on where it stopped.
Clips that cannot be decoded are listed in skipped.csv, those that lack a stream in warnings.csv."""


def extract(dataset, recipe, *, out="", encoders=None, strict=False, pipeline=None):
    """Extracts every clip of a data set, or goes on with, or reuses, what is there.

    Args:
        dataset: `tfvc.data.datasets.Dataset`.
        recipe: its `data` and `backbone` sections say how.
        out: folder of the records; "" = `<cache>/features/<dataset>-<backbone>-<digest>`.
        encoders: loaded networks; None = `encoders.load(recipe)`.
        strict: a clip that had to be skipped is an error, once all others are written.
        pipeline: of `tfvc.beam.options`: many workers extract; None = this process alone.

    Returns:
        Path of the folder, whole: shards, `manifest.json`, `skipped.csv`, `warnings.csv`.

    Raises:
        ValueError: `out` holds records of other settings; the disk is too small; nothing at all
            could be decoded; the pipeline failed; or, if `strict`, anything was skipped.
    """
    from tfvc.data import shards

    if dataset.kind == "records":
        raise ValueError(f"{dataset.root}: extracted records already; expected videos")
    encoders = encoders or networks.load(recipe, dataset.kind == "demo", [c.text for c in dataset.clips])
    wanted = settings(recipe, encoders, dataset)
    folder = Path(out) if out else default_folder(recipe, wanted, dataset)
    clips, start = 0, time.monotonic()
    if not _whole(folder, wanted, dataset):  # readers of whole records need no lock
        with files.locked(folder, "extracting into", wait=True):
            start = time.monotonic()
            clips = _write(folder, wanted, dataset, encoders, pipeline)
    manifest = shards.read_manifest(folder)
    _summary(folder, manifest, clips, time.monotonic() - start)
    if not manifest.records:
        raise ValueError(
            f"{folder}: not one of {len(dataset.clips)} clips could be decoded (the first: "
            f"{manifest.skipped[0][1]}); see {folder / 'skipped.csv'}"
        )
    if strict and manifest.skipped:
        raise ValueError(
            f"--strict: {len(manifest.skipped)} clips were skipped; see {folder / 'skipped.csv'}"
        )
    return folder


def settings(recipe, encoders, dataset):
    """What determines the bytes of the records: a flat dict, JSON-able, whose digest names the folder."""
    flat = _comparable(recipe)
    spoken = "text" in streams(recipe)
    clips = [
        (c.id, list(c.labels), c.group, c.part, fingerprint(c.path), *[c.text] * spoken)
        for c in dataset.clips
    ]
    kept = ("data.frames", "data.max_seconds", "data.shard_clips")
    kept += ("data.max_pixels", "backbone.batch_size") if encoders.pictures else ()
    kept += tuple(key for key in ("audio.rows", "text.rows") if flat[key])
    made_by = {key: flat[key] for name in streams(recipe) for key in _MADE_BY[name]}
    # Those that mean nothing here are left out, so that records made before there were these are found again.
    made_by = {key: value for key, value in made_by.items() if _SINCE.get(key) != value}
    if recipe.data.sampling == "even":
        made_by.pop("data.fps", None)
    words = {"text.vocabulary": digest(encoders.vocabulary)} if encoders.vocabulary else {}
    return {
        "extraction": EXTRACTION,
        **made_by,
        **{key: flat[key] for key in kept},
        **{networks.WEIGHTS[name]: encoders.weights[name] for name in streams(recipe)},
        **words,
        "encoder": networks.identity(encoders),
        "classes": digest(list(dataset.classes)),
        "clips": f"{len(clips)} clips, {digest(sorted(clips))}",
    }


def _comparable(recipe):
    """The flat recipe, as `settings` notes it."""
    size = ",".join(map(str, recipe.backbone.size))
    return flatten(recipe) | {"backbone.size": size, "backbone.name": _name(recipe.backbone.name)}


def default_folder(recipe, wanted, dataset):
    """Where the records of these settings lie when no folder is named."""
    parts = {"frames": Path(recipe.backbone.name).stem, "audio": recipe.audio.name}
    parts["text"] = recipe.text.embedding
    made_by = "-".join(parts[name] for name in streams(recipe))
    name = f"{dataset.name}-{made_by}-{digest(wanted)}".replace(os.sep, "_")
    return files.cache_root() / "features" / name


def weights_of(manifest):
    """Stream -> sentence of the weights that records were made with; "" where they have no such stream."""
    found = {
        name: str(manifest.settings.get(key, networks.UNKNOWN)) for name, key in networks.WEIGHTS.items()
    }
    held = {row.name for row in manifest.features}
    return {name: text if name in held else "" for name, text in found.items()}


def check_records(manifest, recipe, weights=None):
    """Refuses records that were made otherwise than the recipe says.

    Args:
        manifest: `shards.Manifest`.
        recipe: of the run that is to use them.
        weights: stream -> sentence of the weights behind a finished run's features; None = any will do.

    Raises:
        ValueError: they differ; each setting is named.
    """
    wanted = read_by(recipe)
    flat = _comparable(recipe) | {"extraction": EXTRACTION}
    keys = ["extraction", *(key for name in wanted for key in _MADE_BY[name])]
    if weights is not None:
        flat |= {networks.WEIGHTS[name]: weights[name] for name in wanted}
        keys += [networks.WEIGHTS[name] for name in wanted]
    there = {key: manifest.settings[key] for key in keys if key in manifest.settings}
    other = differences(there, {key: flat[key] for key in there})
    if other:
        remedy = "give the ones on the left with --set, or extract again"
        if weights is not None:
            remedy = "give the videos themselves, or records made with the settings on the right"
        raise ValueError(
            f"{manifest.folder}: these records were made with other settings than the run's "
            f"({'; '.join(other)}); {remedy}"
        )


def decode_ahead(paths, encoders, rows=0, texts=()):
    """A `DecodeAhead` of clips for these networks.

    Args:
        rows: of each stream that are enough; 0 = all.
        texts: the words that go with each path; () = none.
    """
    from tfvc.data import ahead

    recipe = encoders.recipe
    size = networks.frames_per_row(recipe)
    return ahead.DecodeAhead(
        paths,
        decode_options(recipe, rows * size),
        ahead.BATCHES * recipe.backbone.batch_size,
        streams=encoders.streams,
        track=lambda: encoders.track(rows),
        texts=texts,
    )


def decode_options(recipe, max_frames=0):
    """Keyword arguments of `video.iter_frames`."""
    data = recipe.data
    even = {"count": data.frames} if data.sampling == "even" else {}
    return even | {
        "fps": data.fps,
        "size": recipe.backbone.size,
        "channel_order": data.channel_order,
        "interpolation": data.interpolation,
        "max_frames": max_frames or None,
        "max_seconds": data.max_seconds,
        "max_pixels": data.max_pixels,
    }


def _name(backbone):
    """A row, a handle, or the name of a file: what is in it counts (`encoder`), not where it lies."""
    from tfvc.backbones import weights  # imports nothing heavy

    kind = weights.HUB if backbone.startswith(weights.HUB) else ""
    path = backbone.removeprefix(kind)
    file = os.path.isabs(path) or os.path.exists(path)
    return kind + (os.path.basename(os.path.abspath(path)) if file else path)


def _whole(folder, wanted, dataset):
    """Whether the folder holds these records, every shard in full size."""
    from tfvc.data import shards

    try:
        manifest = shards.read_manifest(folder)
    except (FileNotFoundError, ValueError):
        return False  # what is wrong with it, `open_folder` tells
    same = (manifest.digest, manifest.dataset) == (digest(wanted), dataset.name)
    return same and all(shards.done(folder, k) for k in range(manifest.shard_count))


def _write(folder, wanted, dataset, encoders, pipeline):
    """Writes what is missing, and returns how many clips that was."""
    from tfvc.data import shards

    shard_clips = encoders.recipe.data.shard_clips
    plan = shards.plan(dataset.clips, shard_clips)
    todo = {k: plan[k] for k in range(len(plan)) if not shards.done(folder, k)}
    clips = [c for part in todo.values() for c in part]
    if todo:
        _check_disk(folder, clips, encoders)  # before anything is made
    shards.open_folder(folder, wanted, dataset, encoders.rows, shard_clips, encoders.vocabulary)
    if not todo:
        return 0
    if len(todo) < len(plan):
        print(f"going on in {files.shown(folder)}: {len(plan) - len(todo)} of {len(plan)} shards are there")
    if pipeline:
        from tfvc import beam

        beam.run(pipeline, folder, todo, dataset, encoders)
    else:
        with cli.progress(len(dataset.clips), len(dataset.clips) - len(clips), "clip") as bar:
            write_shards(folder, todo, dataset.classes, encoders, bar)
    manifest = shards.finish(folder)
    if encoders.words:
        there = set(manifest.ids) if pipeline else ()  # the workers' own counts stay with them
        for text in (c.text for c in clips if c.id in there):
            encoders.words.rows(text)
        print(f"text: {encoders.words.known()}")
    return len(clips)


def write_shards(folder, todo, classes, encoders, bar):
    """Writes shards; the decoders run on over the border of a shard, network calls do not.

    Args:
        folder: that `shards.open_folder` made.
        todo: number of a shard -> its clips.
        classes: of the data set, in label order.
        encoders: `tfvc.encoders.Encoders`.
        bar: of `cli.progress`; it counts clips, and prints warnings.
    """
    from tfvc.data import ahead, schema, shards

    recipe, rows = encoders.recipe, encoders.rows
    label = {name: i for i, name in enumerate(classes)}
    clips = [c for part in todo.values() for c in part]
    most = schema.LARGEST // sum(schema.frame_bytes(row) + schema.FRAME_BYTES for row in rows)
    enough = min(recipe.data.frames or most + 1, most + 1)

    def records(first, count, skipped, warnings):
        here = range(first, first + count)
        for one in ahead.encode_all(decoder, here, encoders, recipe.backbone.batch_size):
            clip = clips[one.index]
            features = {} if one.reason else encoders.features(one)
            length = max(map(len, features.values()), default=0)
            if length > most:
                one.reason = f"over {most} rows, more than a record of 2 GiB holds; {_SMALLER}"
            bar.update()
            if one.reason:
                skipped.append((str(clip.path) or clip.id, one.reason))
                continue
            for text in one.warnings:
                warnings.append((str(clip.path) or clip.id, text))
                bar.write(f"warning: {clip.path or clip.id}: {text}", file=sys.stderr)
            labels = [label[name] for name in clip.labels]
            yield clip.id, schema.serialize(clip.id, labels, features, rows), length

    first = 0
    texts = [c.text for c in clips]
    with decode_ahead([c.path for c in clips], encoders, enough, texts) as decoder:
        for k, part in todo.items():
            skipped, warnings = [], []  # filled while the records are drawn
            made = records(first, len(part), skipped, warnings)
            shards.write_shard(folder, k, made, skipped, warnings)
            first += len(part)


def _check_disk(folder, clips, encoders):
    """Estimates the bytes to come from the durations of a sample; too little room is an error."""
    from tfvc.data import schema, video

    recipe, rows, lengths = encoders.recipe, encoders.rows, []
    for clip in clips[:: -(-len(clips) // _SAMPLE)]:
        # What cannot be read will be skipped, and listed, when it is its turn.
        with contextlib.suppress(video.MediaError, FileNotFoundError):
            seconds = video.streams(clip.path).seconds
            lengths.append(max(1.0, seconds / networks.seconds_per_row(recipe)))
    if recipe.data.frames:
        lengths = [min(n, recipe.data.frames) for n in lengths]
    count = sum(lengths) / max(1, len(lengths)) * len(clips)
    width = sum(map(schema.frame_bytes, rows))
    needed, free = count * width + len(clips) * _RECORD_BYTES, files.free_bytes(folder)
    if needed > free:
        cached = Path(os.path.abspath(folder)).is_relative_to(os.path.abspath(files.cache_root()))
        elsewhere = "TFVC_CACHE=<a folder on another disk>" if cached else "another --workdir"
        raise ValueError(
            f"{folder}: about {needed / 1e9:.3g} GB are needed ({count:.0f} rows of {width} bytes) and "
            f"{free / 1e9:.3g} GB are free; use {_ways(recipe, rows)}, or {elsewhere}"
        )


def _ways(recipe, rows):
    """What would make records smaller, in words."""
    largest = max(rows, key=lambda row: math.prod(row.shape[1:]))
    if largest.dtype == "uint8":
        return "a smaller --set=backbone.size"
    ways = []
    section = "audio" if largest.name == "audio" else "backbone"
    if largest.name == "audio" and recipe.audio.output == "conv4_2":
        ways.append("--set=audio.output=pooled")
    if largest.name == "frames" and recipe.backbone.pooling == "none":
        ways.append("--set=backbone.pooling=avg")
    if largest.dtype == "float32":
        ways.append(f"--set={section}.dtype=float16")
    return ", ".join([*ways, "a lower data.fps" if recipe.data.pool == "none" else "a lower data.frames"])


def _summary(folder, manifest, clips, seconds):
    kept, frames = len(manifest.records), sum(r["frames"] for r in manifest.records)
    rate = f", {clips / max(seconds, 1e-9):.1f} clips/s" if clips else ", all there already"
    listing = f" (see {files.shown(folder / 'skipped.csv')})" if manifest.skipped else ""
    skipped = f"{len(manifest.skipped)} skipped{listing}"
    if manifest.warnings:
        skipped += f", {len(manifest.warnings)} warnings (see {files.shown(folder / 'warnings.csv')})"
    print(f"extracted {kept} clips, {frames} rows, {skipped}{rate}: {files.shown(folder)}")


def fingerprint(path):
    """`files.fingerprint`, -1 for a file that is not there."""
    try:
        return files.fingerprint(path)
    except OSError:
        return -1  # a missing file is skipped, and listed, when it is its turn


def _pipeline(arguments):
    """Beam's options; None without `--runner`."""
    if arguments.runner:
        from tfvc import beam

        os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # several processes may share a GPU
        return beam.options(arguments.runner, arguments.pipeline_options)
    if arguments.pipeline_options:
        raise cli.Usage("--pipeline_options: only with --runner; expected both, or neither")
    return None


def main(argv=None):
    def run(arguments):
        from tfvc.data import datasets

        pipeline = _pipeline(arguments)
        resolved = cli.recipe_of(arguments)
        dataset = datasets.load(resolved.data, arguments.data)
        extract(dataset, resolved, out=arguments.workdir, strict=arguments.strict, pipeline=pipeline)

    names = ("model", "fidelity", "data", "workdir", "set", "backbone", "strict")
    names += ("runner", "pipeline_options")
    cli.command("tfvc.extract", _DOC, names, run, argv)


if __name__ == "__main__":
    main()
