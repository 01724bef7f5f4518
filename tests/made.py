"""A small recipe, made-up records and the train command, for the tests of training."""

import os
import subprocess
import sys

import numpy as np
from conftest import ROOT

from tfvc import recipe as recipes
from tfvc import workdir
from tfvc.data import datasets, schema, shards
from tfvc.recipe import Feature

SMALL = [
    "model_args.units=4",
    "model_args.dense=8",
    "train.batch_size=8",
    "train.epochs=3",
    "train.learning_rate=0.01",
    "backbone.size=32,32",
]
ROW = Feature("frames", (None, 6), "float32")


def recipe(*overrides, fidelity="original"):
    return recipes.get("attention_boosted", fidelity, [*SMALL, *overrides])


def make_records(folder, classes=("left", "right"), groups=10, weights="random (seed 0)", labels=None):
    """Two clips a group and class; the class is the sign of the slope over time."""
    rng = np.random.default_rng(0)
    clips = [
        datasets.Clip(f"{c}/{g}_{k}", "", (c,) if labels is None else labels(c), group=f"{c}{g}")
        for c in classes
        for g in range(groups)
        for k in range(2)
    ]
    several = any(len(c.labels) > 1 for c in clips)
    dataset = datasets.Dataset("made-up", "folder", "", clips, list(classes), several)
    settings = {"data.channel_order": "bgr", "backbone.size": "32,32", "backbone.weights": weights}
    shards.open_folder(folder, settings, dataset, [ROW], 16)
    for index, part in enumerate(shards.plan(clips, 16)):
        records = []
        for clip in part:
            frames = int(rng.integers(3, 6))
            slope = classes.index(clip.id.split("/")[0]) - (len(classes) - 1) / 2
            values = np.arange(frames)[:, None] * slope + rng.normal(size=(frames, 6)) * 0.2
            known = [classes.index(name) for name in clip.labels]
            blob = schema.serialize(clip.id, known, {"frames": values.astype("float32")}, [ROW])
            records.append((clip.id, blob, frames))
        shards.write_shard(folder, index, records, [])
    shards.finish(folder)
    return str(folder)


def command(*arguments, **options):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2"}
    line = [sys.executable, "-m", "tfvc.train", *arguments]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(line, cwd=ROOT, env=environment, **streams, **options)


def flags(records, folder, *overrides):
    """What the command is given."""
    return [f"--data={records}", f"--workdir={folder}", *(f"--set={o}" for o in (*SMALL, *overrides))]


def weights_of(folder):
    return workdir.load(folder).model().get_weights()
