"""Frames a second of the extraction, decoding included, against a bare `predict` and the original's way.

(a) ours: `extract.extract`, from the video files to the finished shards; (b) bare: Keras' `predict` in
batches, on frames that lie in memory; (c) the original's way: open each video, seek to each second, one
`predict` a frame; (d) ours in bfloat16. The same clips, the rounds alternating, medians. Loading TensorFlow
and building the network is in none of them, nor is the first call, which compiles.
"""

import dataclasses
import itertools
import tempfile
from pathlib import Path

from experiments.benchmarks import Result, alternate, has_bfloat16, medians

OPTIONS = {
    "backbones": "vgg19,inception_v3,densenet201",
    "rounds": 5,
    "data": "",  # "" = the demo set
    "clips": 9,
    "size": "224,224",
}
_BARE = 0.9
_ORIGINAL = {"vgg19": 1.6, "inception_v3": 2.6, "densenet201": 2.2}
_BFLOAT16, _COSINE = 3.0, 0.99


def run(options):
    """Measures each backbone in turn; returns the list of results."""
    results = []
    for name in options["backbones"].split(","):
        results += _backbone(name, options)
    return results


def _backbone(name, options):
    from tfvc import encoders, extract, recipe
    from tfvc.data import datasets, shards

    settings = [f"backbone.name={name}", "backbone.weights=random", f"backbone.size={options['size']}"]
    plain = recipe.get("attention_boosted", "corrected", settings)
    half = recipe.override(plain, ["backbone.precision=bfloat16"])
    dataset = datasets.load(plain.data, options["data"])
    order = itertools.chain.from_iterable(shards.plan(dataset.clips, 64))
    dataset = dataclasses.replace(dataset, clips=list(order)[: options["clips"]])  # a mixture of the classes
    frames = _frames(dataset, plain)
    single, fast = (encoders.load(r) for r in (plain, half))
    with tempfile.TemporaryDirectory() as folder:
        number, kept = itertools.count(), {}

        def ours(key, r, networks):
            out = Path(folder) / f"{key}{next(number)}"
            kept[key] = extract.extract(dataset, r, out=out, encoders=networks)

        model = single.pictures.model
        cases = {
            "ours": lambda: ours("float32", plain, single),
            "bare": lambda: model.predict(frames, batch_size=plain.backbone.batch_size, verbose=0),
            "original": lambda: _original(dataset, plain, model),
            "bfloat16": lambda: ours("bfloat16", half, fast),
        }
        for case in cases.values():  # warm: compiled, and the clips in the system's cache
            case()
        seconds = alternate(cases, options["rounds"])
        cosine = _cosine(kept["float32"], kept["bfloat16"])
    median = medians(seconds)
    rate = {key: len(frames) / value for key, value in median.items()}
    details = {"frames": len(frames), "seconds": seconds, "frames_per_second": rate}
    shown = ", ".join(f"{key} {value:.1f}" for key, value in rate.items())
    native = has_bfloat16()
    bars = (_BFLOAT16, _COSINE) if native else (None, None)
    note = "" if native else "the processor has no bfloat16"
    return [
        Result(
            f"{name}: ours / bare predict",
            median["bare"] / median["ours"],
            _BARE,
            f"frames/s: {shown}",
            details,
        ),
        Result(f"{name}: ours / original's way", median["original"] / median["ours"], _ORIGINAL.get(name)),
        Result(f"{name}: bfloat16 / original's way", median["original"] / median["bfloat16"], bars[0], note),
        Result(f"{name}: bfloat16, least cosine to float32", cosine, bars[1], note),
    ]


def _frames(dataset, recipe):
    import numpy as np

    from tfvc import extract
    from tfvc.data import video

    options = extract.decode_options(recipe)
    return np.concatenate([video.read_frames(clip.path, **options).frames for clip in dataset.clips])


def _original(dataset, recipe, model):
    """Open, seek to each second, decode to the frame, resize, one `predict`: as published."""
    import av

    height, width = recipe.backbone.size
    for clip in dataset.clips:
        with av.open(clip.path, metadata_errors="ignore") as container:
            stream = container.streams.video[0]
            origin = float((stream.start_time or 0) * stream.time_base)
            for second in range(max(1, round(float((stream.duration or 0) * stream.time_base)))):
                container.seek(int((origin + second) / stream.time_base), stream=stream)
                frame = next((f for f in container.decode(stream) if f.time >= origin + second - 1e-6), None)
                if frame is None:
                    break
                picture = frame.reformat(width, height, "rgb24", interpolation="AREA").to_ndarray()
                model.predict(picture[None], verbose=0)


def _cosine(first, second):
    """Least cosine between the features of a frame in two folders of records."""
    import numpy as np

    from tfvc.data import pipeline, shards

    least = 1.0
    rows = [
        dataclasses.replace(row, shape=(64, *row.shape[1:])) for row in shards.read_manifest(first).features
    ]
    classes = shards.read_manifest(first).classes
    pair = [pipeline.batches(pipeline.Source(folder, rows, classes), 1) for folder in (first, second)]
    for (a, *_), (b, *_) in zip(*pair, strict=True):
        a, b = a["frames"].numpy()[0].astype("float64"), b["frames"].numpy()[0].astype("float64")
        norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        real = norms > 0
        least = min(least, float(np.min((a * b).sum(axis=1)[real] / norms[real], initial=1.0)))
    return least
