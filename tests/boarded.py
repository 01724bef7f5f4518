"""A run of mafnet that was never trained, measured: some of its clips have files, one of them damaged."""

import csv

import keras
import numpy as np
import sounded

from tfvc import evaluate, workdir
from tfvc import recipe as recipes
from tfvc.data import demo
from tfvc.models import mafnet
from tfvc.recipe import Feature

ROWS = [Feature("frames", (4, 6)), Feature("audio", (4, 2, 2, 4))]
TEST = [f"{name}/{group}_{take}" for name in sounded.CLASSES for group in range(2) for take in range(3)]
SEEN = ["DiscHigh/0_0", "DiscLow/0_0", "StripesHigh/0_0"]  # have files
DAMAGED = "StripesLow/0_0"


def make(root):
    """The folder of the run below `root`; `root/clips` holds the files."""
    records = sounded.make_records(root / "records", groups=2)
    (root / "clips").mkdir()
    rows = [["id", "path", "labels"]]
    for number, name in enumerate([*SEEN, DAMAGED]):
        path = root / "clips" / f"{number}.mp4"
        if name == DAMAGED:
            path.write_bytes(b"no video" * 100)
        else:
            frames = np.full((32, 48, 64, 3), 40 + 80 * number, "uint8")
            sound = np.sin(np.arange(4 * demo.RATE) / 20) / 4
            demo.write_clip(path, frames, fps=8, sound=sound)
        rows.append([name, path, name.split("/")[0]])
    with open(root / "clips.csv", "w", newline="") as f:
        csv.writer(f).writerows(rows)
    keras.utils.set_random_seed(0)
    model = mafnet.build_model(ROWS, 4, units=8, momentum=0.5)
    return save(root / "run", model, records, str(root / "clips.csv"))


def save(folder, model, records, source, *overrides):
    """A finished run around a model."""
    folder.mkdir()
    facts = workdir.Facts("made-up", source, records, list(sounded.CLASSES), ROWS)
    facts.weights = facts.audio_weights = "random (seed 0)"
    recipe = recipes.get("mafnet", "corrected", [*sounded.SMALL, *overrides])
    workdir.save(folder, recipe, facts, 0, {"train": [], "validation": [], "test": TEST})
    model.save(folder / "model.keras")
    return folder


def measured(root):
    """`make`, evaluated."""
    run = make(root)
    evaluate.evaluate(run)
    return run
