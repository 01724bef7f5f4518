"""Made-up records of sight and sound, and small runs of mafnet on them."""

import numpy as np

from tfvc import recipe as recipes
from tfvc import train
from tfvc.data import datasets, schema, shards
from tfvc.recipe import Feature

ROWS = [Feature("frames", (None, 6)), Feature("audio", (None, 2, 2, 4))]
CLASSES = ("DiscHigh", "DiscLow", "StripesHigh", "StripesLow")  # a bit in the picture, a bit in the sound
SMALL = ("model_args.units=8", "model_args.momentum=0.5", "data.frames=4", "train.batch_size=16")
SMALL += ("train.epochs=12", "train.learning_rate=0.02", "train.drop_visual=0")


def make_records(folder, groups=8):
    """Three clips a group and class of two to four rows; one of each second group has no sound."""
    rng = np.random.default_rng(0)
    clips = [
        datasets.Clip(f"{name}/{group}_{take}", "", (name,), group=f"g{group}")
        for name in CLASSES
        for group in range(groups)
        for take in range(3)
    ]
    dataset = datasets.Dataset("made-up", "folder", "", clips, list(CLASSES))
    made_by = {"backbone.weights": "random (seed 0)", "audio.weights": "random (seed 0)"}
    shards.open_folder(folder, made_by, dataset, ROWS, 64)
    for index, part in enumerate(shards.plan(clips, 64)):
        records = []
        for clip in part:
            label, length = CLASSES.index(clip.labels[0]), int(rng.integers(2, 5))
            values = {}
            for row, bit in zip(ROWS, (label // 2, label % 2), strict=True):
                noise = rng.normal(size=(length, *row.shape[1:]))
                noise[..., 0] += 4 * bit - 2
                values[row.name] = noise.astype("float32")
            if clip.id.endswith("_2") and int(clip.group[1:]) % 2:
                del values["audio"]
            records.append((clip.id, schema.serialize(clip.id, [label], values, ROWS), length))
        shards.write_shard(folder, index, records, [])
    shards.finish(folder)
    return str(folder)


def trained(folder, records, *overrides):
    """The folder of a finished run."""
    resolved = recipes.get("mafnet", "corrected", [*SMALL, *overrides])
    train.train(resolved, data=records, workdir=folder)
    return folder
