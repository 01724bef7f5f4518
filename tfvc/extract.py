"""Raw videos to a folder of records: decode, one network call for many frames, TFRecord shards.

Frames of many clips share a network call, and clips are decoded in threads while the network runs.
No network call crosses a shard, so a run that was killed goes on to the very same bytes.
"""

import contextlib
import dataclasses
import hashlib
import math
import os
import shutil
import sys
import time
from pathlib import Path

from tfvc import cli, files
from tfvc.recipe import Feature, differences, digest, flatten

# Raise it whenever the same settings would give other records: another rule of which frames are kept,
# another scaler, another order of bytes. Features that are there already are then not used again.
EXTRACTION = 1

_SAMPLE = 32  # clips whose duration is looked up to estimate the disk
_RECORD_BYTES = 96  # framing, id and labels of one record
_END = 4096  # bytes at either end of a clip that tell it from another
_FRAME_BYTES = 32  # framing of one frame
_LARGEST = 2**31 - 2**17  # bytes of a record: a protocol buffer ends at 2 GiB
_SMALLER = "lower data.fps, pool the features, or cut the clip"
_MADE_BY = (  # what records and run must have in common, or the model would meet other features
    "extraction",
    "data.fps",
    "data.channel_order",
    "data.interpolation",
    "backbone.name",
    "backbone.preprocessing",
    "backbone.size",
    "backbone.pooling",
    "backbone.precision",
    "backbone.dtype",
)

_DOC = """Extracts frame features from videos into TFRecord shards.

Start the same command again after an interruption: it goes on where it stopped.
Clips that cannot be decoded are listed in skipped.csv."""


def extract(dataset, recipe, *, out="", encoder=None, strict=False):
    """Extracts every clip of a data set, or goes on with, or reuses, what is there.

    Args:
        dataset: `tfvc.data.datasets.Dataset`.
        recipe: its `data` and `backbone` sections say how.
        out: folder of the records; "" = `<cache>/features/<dataset>-<backbone>-<digest>`.
        encoder: a loaded backbone; None = `visual.load(recipe.backbone)`.
        strict: a clip that had to be skipped is an error, once all others are written.

    Returns:
        Path of the folder, whole: shards, `manifest.json`, `skipped.csv`.

    Raises:
        ValueError: `out` holds records of other settings; the disk is too small; nothing at all
            could be decoded; or, if `strict`, anything was skipped.
    """
    from tfvc.data import shards

    if dataset.kind == "records":
        raise ValueError(f"{dataset.root}: extracted records already; expected videos")
    encoder = encoder or load_encoder(recipe, dataset)
    wanted = settings(recipe, encoder, dataset)
    folder = Path(out) if out else default_folder(recipe, wanted, dataset)
    clips, start = 0, time.monotonic()
    if not _whole(folder, wanted, dataset):  # readers of whole records need no lock
        with files.locked(folder, "extracting into", wait=True):
            start = time.monotonic()
            clips = _write(folder, wanted, dataset, recipe, encoder)
    manifest = shards.read_manifest(folder)
    _summary(folder, manifest, clips, time.monotonic() - start)
    if not manifest.records:
        raise ValueError(
            f"{folder}: not one of {len(dataset.clips)} clips could be decoded; see {folder / 'skipped.csv'}"
        )
    if strict and manifest.skipped:
        raise ValueError(
            f"--strict: {len(manifest.skipped)} clips were skipped; see {folder / 'skipped.csv'}"
        )
    return folder


def settings(recipe, encoder, dataset):
    """What determines the bytes of the records: a flat dict, JSON-able, whose digest names the folder."""
    data, backbone = recipe.data, recipe.backbone
    clips = [(c.id, list(c.labels), c.group, c.part, _fingerprint(c.path)) for c in dataset.clips]
    height, width = backbone.size
    return {
        "extraction": EXTRACTION,
        "data.fps": data.fps,
        "data.frames": data.frames,
        "data.channel_order": data.channel_order,
        "data.interpolation": data.interpolation,
        "data.max_seconds": data.max_seconds,
        "data.max_pixels": data.max_pixels,
        "data.shard_clips": data.shard_clips,
        "backbone.name": _name(backbone.name),
        "backbone.weights": encoder.weights,
        "backbone.preprocessing": backbone.preprocessing,
        "backbone.size": f"{height},{width}",
        "backbone.pooling": backbone.pooling,
        "backbone.precision": backbone.precision,
        "backbone.dtype": backbone.dtype,
        "backbone.batch_size": backbone.batch_size,
        "encoder": encoder.digest,
        "classes": digest(list(dataset.classes)),
        "clips": f"{len(clips)} clips, {digest(sorted(clips))}",
    }


def default_folder(recipe, wanted, dataset):
    """Where the records of these settings lie when no folder is named."""
    name = f"{dataset.name}-{Path(recipe.backbone.name).stem}-{digest(wanted)}".replace(os.sep, "_")
    return files.cache_root() / "features" / name


def load_encoder(recipe, dataset=None):
    """The recipe's backbone. On the demo set it may fall back to random weights, and says so.

    Random weights are those of seed 0 in every run, so that runs of all seeds share one set of features.
    """
    from tfvc.backbones import visual

    demo = dataset is not None and dataset.kind == "demo"
    return visual.load(recipe.backbone, demo=demo, channel_order=recipe.data.channel_order)


def run_encoder(run, recipe=None):
    """The backbone that a finished run's features were made with.

    Args:
        run: `tfvc.workdir.Run`.
        recipe: the run's recipe with other settings that do not change what is computed; None = its own.

    Raises:
        ValueError: the weights found now are not those of the run.
    """
    from tfvc.backbones import visual

    recipe, weights = recipe or run.recipe, run.facts.weights
    backbone = recipe.backbone
    if weights.startswith("random"):  # the demo set's run may have asked for imagenet, and gone on with these
        backbone = dataclasses.replace(backbone, weights="random")
    encoder = visual.load(backbone, channel_order=recipe.data.channel_order)
    if encoder.weights != weights:
        raise ValueError(
            f"{run.path}: its features were made with weights {weights}; found {encoder.weights}"
        )
    return encoder


def check_records(manifest, recipe, weights=None):
    """Refuses records that were made otherwise than the recipe says.

    Args:
        manifest: `shards.Manifest`.
        recipe: of the run that is to use them.
        weights: the sentence of the weights behind a finished run's features; None = any will do.

    Raises:
        ValueError: they differ; each setting is named.
    """
    flat = flatten(recipe)
    flat |= {"extraction": EXTRACTION, "backbone.weights": weights}
    flat |= {"backbone.size": ",".join(map(str, recipe.backbone.size))}
    flat |= {"backbone.name": _name(recipe.backbone.name)}
    keys = _MADE_BY if weights is None else (*_MADE_BY, "backbone.weights")
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


def decode_options(recipe, max_frames=0):
    """Keyword arguments of `video.iter_frames`."""
    data = recipe.data
    return {
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


def _write(folder, wanted, dataset, recipe, encoder):
    """Writes what is missing, and returns how many clips that was."""
    from tfvc.data import shards

    plan = shards.plan(dataset.clips, recipe.data.shard_clips)
    todo = [k for k in range(len(plan)) if not shards.done(folder, k)]
    clips = [c for k in todo for c in plan[k]]
    if todo:
        _check_disk(folder, clips, recipe, encoder)  # before anything is made
    shards.open_folder(folder, wanted, dataset, feature_rows(recipe, encoder), recipe.data.shard_clips)
    if not todo:
        return 0
    if len(todo) < len(plan):
        print(f"going on in {files.shown(folder)}: {len(plan) - len(todo)} of {len(plan)} shards are there")
    _fill(folder, plan, todo, dataset, recipe, encoder)
    shards.finish(folder)
    return len(clips)


def _fill(folder, plan, todo, dataset, recipe, encoder):
    """Writes the missing shards; the decoders run on over the border of a shard."""
    import numpy as np

    from tfvc.data import ahead, schema, shards

    label = {name: i for i, name in enumerate(dataset.classes)}
    rows = feature_rows(recipe, encoder)
    clips = [c for k in todo for c in plan[k]]
    batch = recipe.backbone.batch_size
    total = sum(map(len, plan))
    bar = cli.progress(total, total - len(clips), "clip")
    most = _LARGEST // (_frame_bytes(rows[0]) + _FRAME_BYTES)
    options = decode_options(recipe, min(recipe.data.frames or most + 1, most + 1))

    def records(first, count, skipped):
        for one in ahead.encode_all(decoder, range(first, first + count), encoder, batch):
            if len(one.times) > most:
                one.reason = f"over {most} frames, more than a record of 2 GiB holds; {_SMALLER}"
            clip = clips[one.index]
            bar.update()
            if one.reason:
                skipped.append((str(clip.path), one.reason))
                continue
            for text in one.warnings:
                bar.write(f"warning: {clip.path}: {text}", file=sys.stderr)
            labels = [label[name] for name in clip.labels]
            features = {rows[0].name: np.stack(one.rows)}
            yield clip.id, schema.serialize(clip.id, labels, features, rows), len(one.rows)

    first = 0
    with bar, ahead.DecodeAhead([c.path for c in clips], options, ahead.BATCHES * batch) as decoder:
        for k in todo:
            skipped = []  # filled while the records are drawn
            shards.write_shard(folder, k, records(first, len(plan[k]), skipped), skipped)
            first += len(plan[k])


def feature_rows(recipe, encoder):
    """The rows of the records: one stream, `frames`, of any length."""
    shape = tuple(encoder.feature_shape) if recipe.backbone.name == "frames" else (encoder.feature_size,)
    dtype = "uint8" if recipe.backbone.name == "frames" else recipe.backbone.dtype
    return [Feature("frames", (None, *shape), dtype)]


def _check_disk(folder, clips, recipe, encoder):
    """Estimates the bytes to come from the durations of a sample; too little room is an error."""
    from tfvc.data import video

    lengths = []
    for clip in clips[:: -(-len(clips) // _SAMPLE)]:
        # What cannot be read will be skipped, and listed, when it is its turn.
        with contextlib.suppress(video.MediaError, FileNotFoundError):
            lengths.append(max(1.0, video.streams(clip.path).seconds * recipe.data.fps))
    if recipe.data.frames:
        lengths = [min(n, recipe.data.frames) for n in lengths]
    frames = sum(lengths) / max(1, len(lengths)) * len(clips)
    row = feature_rows(recipe, encoder)[0]
    width = _frame_bytes(row)
    place = Path(os.path.abspath(folder))
    there = next(p for p in (place, *place.parents) if p.exists())
    needed, free = frames * width + len(clips) * _RECORD_BYTES, shutil.disk_usage(there).free
    if needed > free:
        ways = ["a lower data.fps"]
        if row.dtype == "float32":
            ways.insert(0, "--set=backbone.dtype=float16")
        if row.dtype != "uint8" and recipe.backbone.pooling == "none":
            ways.insert(0, "--set=backbone.pooling=avg")
        smaller = "a smaller --set=backbone.size" if row.dtype == "uint8" else ", ".join(ways)
        cached = place.is_relative_to(os.path.abspath(files.cache_root()))
        elsewhere = "TFVC_CACHE=<a folder on another disk>" if cached else "another --workdir"
        raise ValueError(
            f"{folder}: about {needed / 1e9:.3g} GB are needed ({frames:.0f} frames of {width} bytes) and "
            f"{free / 1e9:.3g} GB are free; use {smaller}, or {elsewhere}"
        )


def _frame_bytes(row):
    return math.prod(row.shape[1:]) * {"float32": 4, "float16": 2, "uint8": 1}[row.dtype]


def _summary(folder, manifest, clips, seconds):
    kept, frames = len(manifest.records), sum(r["frames"] for r in manifest.records)
    rate = f", {clips / max(seconds, 1e-9):.1f} clips/s" if clips else ", all there already"
    listing = f" (see {files.shown(folder / 'skipped.csv')})" if manifest.skipped else ""
    skipped = f"{len(manifest.skipped)} skipped{listing}"
    print(f"extracted {kept} clips, {frames} frames, {skipped}{rate}: {files.shown(folder)}")


def _fingerprint(path):
    """Size, and checksum of both ends: cheap for a thousand hours of video, and a changed clip shows."""
    try:
        with open(path, "rb") as f:
            size, begin = os.fstat(f.fileno()).st_size, f.read(_END)
            f.seek(max(0, size - _END))
            return [size, hashlib.sha256(begin + f.read()).hexdigest()[:10]]
    except OSError:
        return -1  # a missing file is skipped, and listed, when it is its turn


def main(argv=None):
    def run(arguments):
        from tfvc.data import datasets

        resolved = cli.recipe_of(arguments)
        dataset = datasets.load(resolved.data, arguments.data)
        extract(dataset, resolved, out=arguments.workdir, strict=arguments.strict)

    names = ("model", "fidelity", "data", "workdir", "set", "backbone", "strict")
    cli.command("tfvc.extract", _DOC, names, run, argv)


if __name__ == "__main__":
    main()
