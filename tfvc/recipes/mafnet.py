"""Multi-Level Attention Fusion Network for Audio-visual Event Recognition (Brousmiche et al. 2021).

Expected, accuracy in per cent, Table 1 (the means of three lists on UCF51):

    AVE 90.86   UCF51 86.72   Kinetics-Sounds 83.94

Cost: DenseNet201 of 160 frames a clip of 10 s and VGGish of its 10 seconds; 4,143 clips of AVE take 8.5 GB
(sound in float16: 4.4 GB). Training, an hour or two on one GPU.
Command: python -m tfvc.train --model=mafnet --data=AVE --set=data.kind=ave
    Tables 2 to 4: --set=model_args.modality=visual (fusion, attention, film: see the model)
Source: the authors' program (TensorFlow 1), by a description of it and its outputs: it is copyleft and was
not opened. Where program and paper differ, `original` is the program.
"""

import dataclasses

from tfvc.recipe import unless
from tfvc.recipes._av import MASKED, base

_QUIRKS = (
    ("train.optimizer", "adam_tf1", "Adam's small constant is TensorFlow 1's, 1e-8 (Keras: 1e-7)"),
    ("train.learning_rate", 1e-4, "Adam at 1e-4; the paper prints 1e-3"),
    (
        "train.drop_rule",
        "published",
        "which weights a step moves goes by their names: the FiLM generator, fed by the picture, with the "
        "sound, both Dense layers always; each kind of step has an Adam state of its own",
    ),
    ("train.best_from", 2, "the first epoch is never the best"),
    ("train.drop_remainder", True, "the last, smaller batch is dropped, in validation too"),
    MASKED,
)

_DEMO = ("model_args.units=64", "model_args.momentum=0.9", "train.learning_rate=0.001")


def get_recipe(fidelity):
    """The authors' training, or the mended one: masks, one Adam that leaves a standing path alone."""
    update = {"drop_visual": 0.1, "optimizer": "adam", "learning_rate": 1e-4}
    if fidelity == "original":
        update |= {"optimizer": "adam_tf1", "drop_rule": "published", "best_from": 2, "drop_remainder": True}
    return base("mafnet", fidelity, _DEMO, _QUIRKS, **update)


def resolve(recipe, given):
    """With one modality there is no path to leave out of a step, and nothing to condition it by.

    The one epoch of a run of one is its best.
    """
    if recipe.train.epochs == 1:
        recipe = unless(given, recipe, "train", best_from=1)
    if recipe.model_args.get("modality", "both") == "both":
        return recipe
    if "model_args.film" not in given:
        recipe = dataclasses.replace(recipe, model_args={**recipe.model_args, "film": "none"})
    return unless(given, recipe, "train", drop_visual=0.0, drop_audio=0.0, drop_rule="mended")
