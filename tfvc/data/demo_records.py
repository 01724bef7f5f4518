"""Made-up records in YouTube-8M's form, drawn from a seed: what `--model=mfb` trains on without `--data`.

A video shows one or two of 4 pictures and sounds like one or two of 3 sounds, each frame like one of either,
with noise. Its labels are the pairs (picture, sound): 12 classes, 1 to 4 a video. So either stream leaves
open which of 3 or 4 classes it is, and only both together say: neither the pictures nor the sounds of a video
suffice. One video in 16 has no sound: its stream is left out of the record.
"""

import functools

import numpy as np
import tensorflow as tf

from tfvc import files, names
from tfvc.data import schema
from tfvc.recipe import Feature

PICTURES, SOUNDS = 4, 3
NUM_CLASSES = PICTURES * SOUNDS
PARTS = {"train": (192, 3), "validation": (64, 2), "test": (64, 2)}  # videos, shards
FRAMES = (6, 12)  # at least, at most
SILENT = 16  # one video in so many
VERSION = 1  # raised when the drawing changes, so that an old cache is not taken for it
ROWS = {
    "frame": [Feature("rgb", (None, 1024), "uint8", True), Feature("audio", (None, 128), "uint8", True)],
    "video": [Feature("mean_rgb", (1024,)), Feature("mean_audio", (128,))],
}
_SPREAD, _NOISE = 20.0, 40.0  # bytes: of what tells pictures (or sounds) apart, and of what does not


def ensure(level="frame", seed=0, root=None):
    """Patterns of made-up records, drawn on first use.

    Args:
        level: `frame` (rgb and audio, uint8) or `video` (mean_rgb and mean_audio, float32: the means of the
            same videos' frames, as floats in about -2 to 2).
        seed: another seed, other videos; the same seed, the same bytes.
        root: folder that holds the sets; None = `demo` in the user's cache.

    Returns:
        `({"train": pattern, "validation": pattern, "test": pattern}, number of classes)`.

    Raises:
        ValueError: another level.

    Example:
        >>> patterns, classes = ensure("video")
        >>> sorted(patterns), classes
        (['test', 'train', 'validation'], 12)
    """
    if level not in ROWS:
        raise ValueError(names.suggest("level of the demo records", level, ROWS))
    folder = (root or files.cache_root() / "demo") / f"yt8m-{level}-s{seed}-v{VERSION}"
    if not folder.is_dir():
        with files.locked(folder, "drawing into", wait=True):
            if not folder.is_dir():  # another process may have drawn it meanwhile
                files.sweep(folder.parent, folder.name)
                _draw_all(folder, level, seed)
    return {part: f"{folder}/{part}*.tfrecord" for part in PARTS}, NUM_CLASSES


def _draw_all(folder, level, seed):
    rng = np.random.default_rng([seed, *b"yt8m"])
    draw = functools.partial(_video, rng, *(_kinds(rng, n, w) for n, w in ((PICTURES, 1024), (SOUNDS, 128))))
    with files.aside(folder) as temporary:
        temporary.mkdir(parents=True)
        for part, (videos, shards) in PARTS.items():
            records = [_record(f"{part}{i:03d}", level, *draw()) for i in range(videos)]
            for shard in range(shards):
                with tf.io.TFRecordWriter(f"{temporary}/{part}{shard:02d}.tfrecord") as writer:
                    for record in records[shard::shards]:
                        writer.write(record)


def _kinds(rng, count, width):
    """What each picture (or sound) is like, in bytes."""
    return 128 + rng.normal(scale=_SPREAD, size=(count, width))


def _video(rng, pictures, sounds):
    """Labels, frames of sight, frames of sound (None where it is silent)."""
    shown, heard = _some(rng, PICTURES), _some(rng, SOUNDS)
    labels = sorted(int(picture) * SOUNDS + int(sound) for picture in shown for sound in heard)
    frames = int(rng.integers(FRAMES[0], FRAMES[1] + 1))
    sight, sound = _frames(rng, pictures[shown], frames), _frames(rng, sounds[heard], frames)
    return labels, sight, None if rng.integers(SILENT) == 0 else sound


def _some(rng, count):
    """One or two of the numbers below `count`."""
    return rng.permutation(count)[: rng.integers(1, 3)]


def _frames(rng, kinds, count):
    """Bytes (count, width): each frame like one of the kinds, and each kind as often, as near as can be."""
    turns = rng.permutation(np.arange(count) % len(kinds))
    values = kinds[turns] + rng.normal(scale=_NOISE, size=(count, kinds.shape[1]))
    return np.clip(np.rint(values), 0, 255).astype("uint8")


def _record(video, level, labels, sight, sound):
    rows = ROWS[level]
    streams = dict(zip([row.name for row in rows], (sight, sound), strict=True))
    if level == "video":
        streams = {name: None if x is None else _mean(x) for name, x in streams.items()}
    return schema.serialize(video, labels, streams, rows)


def _mean(frames):
    return ((frames.mean(axis=0) - 127) / 63.75).astype("float32")  # what the bytes stand for
