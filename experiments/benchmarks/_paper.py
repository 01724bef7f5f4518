"""The whole of YouTube-8M on paper: hours of a pass by number of machines, from the rates of this one."""

import math
import time
from pathlib import Path

VIDEOS, SHARDS, CLASSES = 6.1e6, 3844, 3862
BYTES = {"frame": 1.7e12, "video": 31e9}  # of the set, by level
_WIDTHS = {"rgb": 1024, "audio": 128}  # bytes a second of a video
MACHINES = (1, 2, 4, 8, 16, 64)
LINKS = {"1 Gbit/s": 0.125e9, "10 Gbit/s": 1.25e9}  # bytes a second, of each machine
MODELS = {  # name -> (level, flags or arguments)
    "LogisticModel": ("video", {}),
    "MoeModel": ("video", {}),
    "FrameLevelLogisticModel": ("frame", {}),
    "DbofModel": ("frame", {}),
    "mfb": ("frame", {"aggregation": "netvlad"}),
}


def frames_of_a_video():
    """Mean, by the size of the set.

    Example:
        >>> round(frames_of_a_video())
        242
    """
    return BYTES["frame"] / VIDEOS / sum(_WIDTHS.values())


def share(machines):
    """Of the set, what the machine with the most shards has.

    Example:
        >>> share(4), round(share(64) * 64, 3)
        (0.25, 1.016)
    """
    return math.ceil(SHARDS / machines) / SHARDS


def reading(machines, rate, link, level="frame"):
    """Hours of reading all once: share * max(videos / rate, bytes / link).

    Example:
        >>> round(reading(1, 5000, 0.125e9), 2), round(reading(1, 1000, 1.25e9), 2)
        (3.78, 1.69)
    """
    return share(machines) * max(VIDEOS / rate, BYTES[level] / link) / 3600


def training(machines, read, step, parameters, batch, link, level="frame"):
    """Hours of a pass of training, `batch` videos a machine and step.

    Steps: share * videos / batch. Each: max(batch / read + batch / step, batch * bytes a video / link), for
    the processor both reads and computes while the next records come in, and then 2 (m - 1) / m * 4 bytes *
    parameters / link for the sum of the gradients (a ring), during which nothing else is counted.
    """
    inward = BYTES[level] / VIDEOS / link
    seconds = batch * max(1 / read + 1 / step, inward)
    seconds += 2 * (machines - 1) / machines * 4 * parameters / link
    return share(machines) * VIDEOS / batch * seconds / 3600


def page(read_frames, read_videos, steps):
    """The tables, as lines of Markdown."""
    read = {"frame": read_frames, "video": read_videos}
    lines = [
        "",
        "# The whole of YouTube-8M, on paper",
        "",
        f"Computed, not measured: {VIDEOS / 1e6:g} M videos in {SHARDS:,} shards, "
        f"{BYTES['frame'] / 1e12:g} TB at frame level ({BYTES['video'] / 1e9:.0f} GB at video level), so "
        f"{frames_of_a_video():.0f} frames a video. Measured here, on one machine with the processor named "
        f"above: {read_frames:,.0f} frame-level and {read_videos:,.0f} video-level records read a "
        "second (at 100x), and the steps of the first table. A machine below is like this one, and has a "
        "link of its own to where the shards lie; shards go whole to machines, the one with the most counts: "
        "share = ceil(3844 / m) / 3844. Memory a machine: that of 100x above, whatever the number of videos, "
        "and 160 bytes a video where GAP is measured (1.1 M videos: 180 MB).",
        "",
        "Hours to read all of it once, by link (computed): share * max(videos / rate, bytes / link).",
        "",
        *head(["machines", *(f"{level} level, {link}" for level in BYTES for link in LINKS)]),
    ]
    for m in MACHINES:
        cells = (reading(m, read[level], speed, level) for level in BYTES for speed in LINKS.values())
        lines.append(line([m, *(f"{hours:.2f}" for hours in cells)]))
    models = {name: row for name, row in steps.items() if name in MODELS}
    batch = next(iter(models.values()))["batch"]
    lines += [
        "",
        f"Hours of a pass of training (computed), {batch} videos a machine and step (so the batch grows "
        "with the machines), float32 on the processor: "
        + " ".join(training.__doc__.split("\n\n")[1].split()),
        "",
        *head(["machines", *(f"{name}, {link}" for name in models for link in LINKS)]),
    ]
    for m in MACHINES:
        cells = (
            training(m, read[MODELS[n][0]], row["rate"], row["parameters"], batch, speed, MODELS[n][0])
            for n, row in models.items()
            for speed in LINKS.values()
        )
        lines.append(line([m, *(f"{hours:.1f}" for hours in cells)]))
    rate = steps["InceptionV3"]["rate"] / frames_of_a_video()
    lines += [
        "",
        "Days to extract the raw videos (computed), a picture a second through InceptionV3 "
        f"({rate:.3f} videos a second and machine: the measured pictures a second, decoding of "
        f"640 x 360 at 25 a second included, divided by {frames_of_a_video():.0f}): "
        "videos / m / rate. Clips need nothing of one another (Beam hands them out one by one), so nothing "
        "is added for the number of machines; sound is not counted.",
        "",
        *head(["machines", "days"]),
        *(line([m, f"{VIDEOS / m / rate / 86400:,.1f}"]) for m in MACHINES),
    ]
    return lines


def head(cells):
    """The two lines that begin a table."""
    return [line(cells), line(["---"] * len(cells))]


def line(cells):
    """A line of a table."""
    return f"| {' | '.join(map(str, cells))} |"


# --- measured, each in a process of its own -----------------------------------------------------------------


def step(name, options):
    """Videos a second through training steps of a model of the set's size, in the median."""
    import statistics

    import numpy as np
    import tensorflow as tf

    from experiments.benchmarks import step as steps
    from tfvc import names

    level, given = MODELS[name]
    rows = _rows(level)
    if name == "mfb":
        model = names.load("models", name).build_model(rows, CLASSES, **given)
    else:
        from starter import models

        model = models.build_model(name, rows, CLASSES, given)
    rng, batch = np.random.default_rng(0), options["batch"]
    inputs = {r.name: tf.constant(rng.integers(0, 256, (batch, *r.shape)), r.dtype) for r in rows}
    if level == "frame":
        inputs |= {f"{r.name}_length": tf.constant(rng.integers(120, 301, batch), tf.int32) for r in rows}
    labels = tf.constant(rng.random((batch, CLASSES)) < 3 / CLASSES, tf.float32)
    call, seconds = steps._step(model, inputs, labels), []
    for _ in range(options["steps"] + 1):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    rate = batch / statistics.median(seconds[1:])
    return {"rate": rate, "batch": batch, "parameters": model.count_params(), "seconds": seconds[1:]}


def _rows(level):
    from tfvc.recipe import Feature

    if level == "frame":
        return [Feature(n, (300, size), "uint8", True) for n, size in _WIDTHS.items()]
    return [Feature(f"mean_{n}", (size,)) for n, size in _WIDTHS.items()]


def pictures(folder, options):
    """Pictures a second through InceptionV3, from video files to records."""
    import dataclasses

    import numpy as np

    from experiments.benchmarks import _scale_cases
    from tfvc import encoders, extract, recipe
    from tfvc.data import datasets, demo

    place, seconds = Path(folder) / "pictures" / "a", 16
    place.mkdir(parents=True)
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (32, 9, 16, 3), "uint8").repeat(40, 1).repeat(40, 2)
    for k in range(max(2, options["pictures"] // seconds)):
        demo.write_clip(place / f"{k}.mp4", [coarse[(k + t) // 25 % 32] for t in range(seconds * 25)], fps=25)
    settings = ["backbone.name=inception_v3", "backbone.weights=random", "backbone.size=299,299"]
    made = recipe.get("attention_boosted", "corrected", [*settings, "backbone.pooling=avg"])
    dataset = datasets.load(made.data, str(place.parent), least_classes=1)
    with _scale_cases.quiet():
        loaded = encoders.load(made)
        first = dataclasses.replace(dataset, clips=dataset.clips[:1])
        extract.extract(first, made, out=place.parent / "warm", encoders=loaded)
        start = time.perf_counter()
        extract.extract(dataset, made, out=place.parent / "all", encoders=loaded)
    return {"rate": len(dataset.clips) * seconds / (time.perf_counter() - start)}
