"""Raw videos to a folder of records: decode, one network call for many frames, TFRecord shards.

Frames of many clips share a network call, and clips are decoded in threads while the network runs.
No network call crosses a shard, so a run that was killed goes on to the very same bytes.
"""

import contextlib
import dataclasses
import fcntl
import os
import re
import shutil
import sys
import time
from pathlib import Path

from tfvc import cli, files
from tfvc.recipe import Feature, digest

_SAMPLE = 32  # clips whose duration is looked up to estimate the disk
_RECORD_BYTES = 96  # framing, id and labels of one record

_DOC = """Extracts frame features from videos into TFRecord shards.

Start the same command again after an interruption: it goes on where it stopped.
Clips that cannot be decoded are listed in skipped.csv."""


def extract(dataset, recipe, *, out="", encoder=None, seed=0, strict=False):
    """Extracts every clip of a data set, or goes on with, or reuses, what is there.

    Args:
        dataset: `tfvc.data.datasets.Dataset`.
        recipe: its `data` and `backbone` sections say how.
        out: folder of the records; "" = `<cache>/features/<dataset>-<backbone>-<digest>`.
        encoder: a loaded backbone; None = `visual.load(recipe.backbone)`.
        seed: of a backbone with random weights.
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
    encoder = encoder or load_encoder(recipe, dataset, seed)
    wanted = settings(recipe, encoder, dataset)
    folder = Path(out) if out else default_folder(recipe, wanted, dataset)
    with _locked(folder):
        shards.open_folder(folder, wanted, dataset, feature_rows(recipe, encoder), recipe.data.shard_clips)
        plan = shards.plan(dataset.clips, recipe.data.shard_clips)
        todo = [k for k in range(len(plan)) if not shards.done(folder, k)]
        start = time.monotonic()
        if todo:
            _check_disk(folder, [c for k in todo for c in plan[k]], recipe, encoder)
            if len(todo) < len(plan):
                print(f"going on in {folder}: {len(plan) - len(todo)} of {len(plan)} shards are there")
            _fill(folder, plan, todo, dataset, recipe, encoder)
            shards.finish(folder)
        manifest = shards.read_manifest(folder)
    _summary(folder, manifest, sum(len(plan[k]) for k in todo), time.monotonic() - start)
    if not manifest.records:
        raise ValueError(
            f"{folder}: not one of {len(dataset.clips)} clips could be decoded; see skipped.csv there"
        )
    if strict and manifest.skipped:
        raise ValueError(
            f"--strict: {len(manifest.skipped)} clips were skipped; see {folder / 'skipped.csv'}"
        )
    return folder


def settings(recipe, encoder, dataset):
    """What determines the bytes of the records: a flat dict, JSON-able, whose digest names the folder."""
    data, backbone = recipe.data, recipe.backbone
    clips = [(c.id, list(c.labels), c.group, c.part, _size(c.path)) for c in dataset.clips]
    height, width = backbone.size
    return {
        "data.fps": data.fps,
        "data.frames": data.frames,
        "data.channel_order": data.channel_order,
        "data.interpolation": data.interpolation,
        "data.max_seconds": data.max_seconds,
        "data.max_pixels": data.max_pixels,
        "data.shard_clips": data.shard_clips,
        "backbone.name": backbone.name,
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


def load_encoder(recipe, dataset=None, seed=0):
    """The recipe's backbone. On the demo set it may fall back to random weights, and says so."""
    from tfvc.backbones import visual

    demo = dataset is not None and dataset.kind == "demo"
    return visual.load(recipe.backbone, seed=seed, demo=demo, channel_order=recipe.data.channel_order)


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
    backbone, seed = recipe.backbone, re.fullmatch(r"random \(seed (-?\d+)\)", weights)
    if seed:  # the demo set's run may have asked for imagenet and gone on with random weights
        backbone = dataclasses.replace(backbone, weights="random")
    encoder = visual.load(backbone, seed=int(seed[1]) if seed else 0, channel_order=recipe.data.channel_order)
    if encoder.weights != weights:
        raise ValueError(
            f"{run.path}: its features were made with weights {weights}; found {encoder.weights}"
        )
    return encoder


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


def _fill(folder, plan, todo, dataset, recipe, encoder):
    """Writes the missing shards; the decoders run on over the border of a shard."""
    import numpy as np
    from tqdm import tqdm

    from tfvc.data import ahead, schema, shards

    label = {name: i for i, name in enumerate(dataset.classes)}
    rows = feature_rows(recipe, encoder)
    clips = [c for k in todo for c in plan[k]]
    batch = recipe.backbone.batch_size
    bar = tqdm(total=sum(map(len, plan)), initial=sum(map(len, plan)) - len(clips), unit="clip", disable=None)
    options = decode_options(recipe, recipe.data.frames)

    def records(first, count, skipped):
        for one in ahead.encode_all(decoder, range(first, first + count), encoder, batch):
            clip = clips[one.index]
            bar.update()
            if one.reason:
                skipped.append((str(clip.path), one.reason))
                continue
            for text in one.warnings:
                tqdm.write(f"warning: {clip.path}: {text}", file=sys.stderr)
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
    width = {"float32": 4, "float16": 2, "uint8": 1}[row.dtype]
    for n in row.shape[1:]:
        width *= n
    needed, free = frames * width + len(clips) * _RECORD_BYTES, shutil.disk_usage(folder).free
    if needed > free:
        smaller = "--set=backbone.pooling=avg, --set=backbone.dtype=float16"
        smaller = "a smaller --set=backbone.size" if row.dtype == "uint8" else smaller
        raise ValueError(
            f"{folder}: about {needed / 1e9:.3g} GB are needed ({frames:.0f} frames of {width} bytes) and "
            f"{free / 1e9:.3g} GB are free; use {smaller}, or another --workdir"
        )


@contextlib.contextmanager
def _locked(folder):
    """One writer a folder. The lock goes with the process, however it ends."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(f".{folder.name}.lock"), "a", encoding="utf-8") as f:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = f"{folder}: another process is extracting into this folder; wait for it to end"
            raise ValueError(text) from None
        yield


def _summary(folder, manifest, clips, seconds):
    kept, frames = len(manifest.records), sum(r["frames"] for r in manifest.records)
    rate = f", {clips / max(seconds, 1e-9):.1f} clips/s" if clips else ", all there already"
    skipped = f"{len(manifest.skipped)} skipped" + (" (see skipped.csv)" if manifest.skipped else "")
    print(f"extracted {kept} clips, {frames} frames, {skipped}{rate}: {folder}")


def _size(path):
    try:
        return os.stat(path).st_size
    except OSError:
        return -1  # a missing file is skipped, and listed, when it is its turn


def main(argv=None):
    def run(arguments):
        from tfvc.data import datasets

        resolved = cli.recipe_of(arguments)
        dataset = datasets.load(resolved.data, arguments.data)
        extract(dataset, resolved, out=arguments.workdir, seed=arguments.seed, strict=arguments.strict)

    names = ("model", "fidelity", "data", "workdir", "set", "seed", "backbone", "strict")
    cli.command("tfvc.extract", _DOC, names, run, argv)


if __name__ == "__main__":
    main()
