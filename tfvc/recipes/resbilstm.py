"""Multi-label Multimodal Deep Learning Framework for Imbalanced Data (Pouyanfar et al., MIPR 2019).

Expected (disaster videos: 1,540 clips, 7 classes, 3,225 labels; not public), Table 2, micro F1, Hamming loss
and MAP over instances:

    visual           .6767   .1586   .6015
    audio            .5022   .2565   .4197
    text             .7789   .1187   .6945
    visual + audio   .6667   .1652   .5928
    visual + text    .823    .0969   .7472
    text + audio     .8586   .078    .7882
    early fusion     .812    .102    .7351
    late fusion      .9022   .0575   .8409
    proposed         .9414   .0348   .8993

Cost: InceptionV3 of 40 frames a clip and SoundNet of its whole sound; the features of 1,540 clips take 0.5 GB
(float16: half). Training, minutes on one GPU; the elimination refits a linear SVM up to 384 times.
Command: python -m tfvc.train --model=resbilstm --data=manifest.csv
    Table 2: --set=model_args.modality=visual_text --set=model_args.temporal=false (one modality or two), or
    --set=model_args.fusion=early (late): baselines without the SVM
Source: the paper, by spec/resbilstm.md; no program was published. Not printed there: sampling, split
(60/20/20 here), units, pooling, optimiser, rate, batch and stop.
"""

from tfvc.recipe import unless
from tfvc.recipes._three import base


def get_recipe(fidelity):
    """The paper's networks and Algorithm 1; `corrected` is refused."""
    return base("resbilstm", fidelity, eliminate=True)


def resolve(recipe, given):
    """The baselines of Table 2 have no second stage: one or two modalities, early and late fusion."""
    usual = {"modality": "all", "fusion": "separate"}
    if usual.items() <= {**usual, **recipe.model_args}.items():
        return recipe
    return unless(given, recipe, "second_stage", name="none")
