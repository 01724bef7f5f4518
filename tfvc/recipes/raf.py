"""Residual Attention-based Fusion for Video Classification (Pouyanfar, Wang & Chen, CVPR workshops 2019).

Expected (disaster videos: 1,540 clips, 7 classes, 3,225 labels; not public), Table 1, micro F1 and MAP:

    audio            0.502   0.420
    visual           0.677   0.602
    text             0.779   0.695
    early fusion     0.812   0.735
    late fusion      0.902   0.841
    RAF, late        0.933   0.891
    RAF, full        0.947   0.910
    RAF, late resid. 0.95    0.92     the abstract's figures; our copy of the table lacks the row

Cost: InceptionV3 of 40 frames a clip and SoundNet of its whole sound; the features of 1,540 clips take 0.5 GB
(float16: half). Training, minutes on one GPU.
Command: python -m tfvc.train --model=raf --data=manifest.csv
    Table 1: --set=model_args.attention=full (or late), =none with model_args.modality=audio, ... or with
    model_args.fusion=early (late): baselines without the SVM
Source: the paper, by spec/raf.md; no program was published. Not printed there: 40 frames (the companion
paper's), sampling, split, units, blocks, pooling, optimiser, rate, batch and stop.
"""

from tfvc.recipe import unless
from tfvc.recipes._three import base


def get_recipe(fidelity):
    """The paper's network and its weighted SVM on all features; `corrected` is refused."""
    return base("raf", fidelity, eliminate=False)


def resolve(recipe, given):
    """The baselines of Table 1 have no second stage: one or two modalities, early fusion, no attention."""
    usual = {"modality": "all", "fusion": "late"}
    proposed = usual.items() <= {**usual, **recipe.model_args}.items()
    if proposed and recipe.model_args.get("attention") != "none":
        return recipe
    return unless(given, recipe, "second_stage", name="none")
