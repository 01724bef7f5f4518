"""Towards Good Practices for Multi-modal Fusion in Large-scale Video Classification (Liu, Yuan & Wang).

Expected (YouTube-8M of 2018, 3,862 classes, 200 of the validate shards), GAP@20 in per cent, Table 1:

    fusion       average   netvlad   dbof
    audio           38.1      50.7   48.9
    video           69.6      82.3   81.8
    concat          74.2      85.0   84.0
    fc_concat       81.8      84.6   84.1
    mfb             83.3      85.5   85.9

Cost: 1.5 TB of frame-level records (31 GB at video level, for `average`); 250,000 steps of 128 videos, six to
seven passes over the training part, on one V100. The paper stopped netvlad with mfb at about 13,000 steps.
Command: python -m tfvc.train --model=mfb --data='yt8m/train*.tfrecord' --set=model_args.aggregation=netvlad
    --set=data.validation='yt8m/validate*.tfrecord'
Source: the paper, section 4; what it leaves out is the YouTube-8M starter program's, on which it is built:
the rate's decay, clipping of each gradient, L2 of the classifier. Not printed there: k and o (see the model).
"""

from tfvc.recipe import Data, Recipe, Train

# 192 made-up videos of at most 12 frames: a run of a minute. Printed by every demo run.
_DEMO = (
    "data.frames=12",
    "train.batch_size=32",
    "train.steps=60",
    "train.evaluate_steps=20",
    "train.learning_rate=0.005",
)


def get_recipe(fidelity):
    """The paper's training as printed; `corrected` is refused, for nothing differs."""
    if fidelity == "corrected":
        raise ValueError(
            "fidelity 'corrected' of mfb: nothing differs, for no program was published; leave --fidelity out"
        )
    return Recipe(
        model="mfb",
        fidelity=fidelity,
        data=Data(kind="yt8m", frames=300),
        train=Train(
            batch_size=128,
            steps=250000,
            evaluate_steps=10000,
            optimizer="adam",
            learning_rate=2e-4,
            loss="cross_entropy",
            decay=0.95,
            decay_examples=4000000,
            clip_norm=1.0,
            shuffle=True,
            report="best",
            monitor="gap",
        ),
        demo_overrides=_DEMO,
    )
