"""Clips a second of mafnet's extraction, both streams, against the original's way.

(a) ours: `extract.extract`, from the files to the finished shards: one pass over a file gives 16 pictures a
second and the sound, DenseNet201 takes pictures in batches, VGGish all seconds of a clip; (b) the original's
way: open each video, seek to each picture, one `predict` a picture, then each second of sound through VGGish
by a `predict` of its own. The same clips and networks, the rounds alternating, medians. Loading TensorFlow
and building the networks is in neither, nor is the first call, which compiles.
"""

import dataclasses
import itertools
import tempfile
from pathlib import Path

from experiments.benchmarks import Result, alternate, medians

OPTIONS = {
    "rounds": 3,
    "data": "",  # "" = the demo set; any folder of videos with sound, as ../shared/data/grid_av
    "clips": 2,
    "fps": 16,
    "backbone": "densenet201",
    "size": "224,224",
}
_BAR = 2.2


def run(options):
    """Measures both ways; returns the list of results."""
    from tfvc import encoders, extract, recipe
    from tfvc.data import datasets

    settings = [f"backbone.name={options['backbone']}", f"backbone.size={options['size']}"]
    settings += ["backbone.weights=random", "audio.weights=random", "data.demo_form=multimodal"]
    plain = recipe.get("mafnet", "corrected", [*settings, f"data.fps={options['fps']}", "data.frames=0"])
    found = datasets.load(plain.data, options["data"], labelled=False)
    clips = [dataclasses.replace(clip, labels=("any",)) for clip in found.clips[: options["clips"]]]
    dataset = dataclasses.replace(found, clips=clips, classes=["any"])
    loaded = encoders.load(plain)
    with tempfile.TemporaryDirectory() as folder:
        number, frames = itertools.count(), []
        cases = {
            "ours": lambda: extract.extract(
                dataset, plain, out=Path(folder) / str(next(number)), encoders=loaded
            ),
            "original": lambda: frames.append(_original(dataset, plain, loaded)),
        }
        for case in cases.values():  # warm: compiled, and the clips in the system's cache
            case()
        seconds = alternate(cases, options["rounds"])
    median = medians(seconds)
    details = {"frames": frames[0], "seconds": seconds}
    shown = ", ".join(f"{key} {value:.1f} s" for key, value in median.items())
    note = f"{len(clips)} clips, {frames[0]} pictures: {shown}"
    return [Result("mafnet: ours / original's way", median["original"] / median["ours"], _BAR, note, details)]


def _original(dataset, recipe, loaded):
    """Seek, decode, resize and `predict` picture by picture, then second by second of sound."""
    count = 0
    for clip in dataset.clips:
        seconds, pictures = _pictures(clip.path, recipe, loaded.pictures.model)
        count += pictures
        _sound(clip.path, seconds, loaded.sound.model)
    return count


def _pictures(path, recipe, model):
    import av

    height, width = recipe.backbone.size
    with av.open(path, metadata_errors="ignore") as container:
        stream = container.streams.video[0]
        origin = float((stream.start_time or 0) * stream.time_base)
        seconds = max(1, round(float((stream.duration or 0) * stream.time_base)))
        features = []
        for index in range(round(seconds * recipe.data.fps)):
            wanted = origin + index / recipe.data.fps
            container.seek(int(wanted / stream.time_base), stream=stream)
            frame = next((f for f in container.decode(stream) if f.time >= wanted - 1e-6), None)
            if frame is None:
                break
            picture = frame.reformat(width, height, "rgb24", interpolation="POINT").to_ndarray()
            features.append(model.predict(picture[None], verbose=0))
    return seconds, len(features)


def _sound(path, seconds, model):
    import numpy as np

    from tfvc.backbones import log_mel
    from tfvc.data import audio

    samples = audio.read_audio(path)
    for second in range(seconds):
        piece, _ = log_mel.windows(samples[second * log_mel.RATE :][: log_mel.RATE], "second", 1)
        model.predict(np.asarray(log_mel.log_mel(piece))[..., None], verbose=0)
