"""What the recipes of mafnet and of the two models that its paper compares with it share."""

from tfvc.recipe import Backbone, Data, Recipe, Train

# Random features of 96 clips of 6 s: small frames, few of them, small batches. Printed by every demo run.
DEMO = (
    "data.demo_form=multimodal",
    "data.fps=2",
    "data.frames=6",
    "backbone.size=64,64",
    "audio.dtype=float16",
    "train.batch_size=16",
    "train.epochs=10",
)

MASKED = (
    "model_args.masked",
    False,
    "rows of zeros (padding of short clips, missing sound) take part as if they were seconds",
)


def base(model, fidelity, demo, quirks, **train):
    """The features of Brousmiche et al. 2021, their stop, and the split; `corrected` masks and validates."""
    corrected = fidelity == "corrected"
    return Recipe(
        model=model,
        fidelity=fidelity,
        data=Data(
            fps=16.0,
            pool="second",
            frames=10,
            interpolation="nearest",
            split="official",
            validation_fraction=0.1 if corrected else 0.0,
        ),
        backbone=Backbone(name="densenet201", size=(224, 224), pooling="avg"),
        model_args={"masked": True} if corrected else {},
        # "More than 50 epochs without a better accuracy" are 51.
        train=Train(batch_size=32, epochs=300, patience=51, min_delta=1e-4, report="best", **train),
        quirks=() if corrected else quirks,
        demo_overrides=(*DEMO, *demo),
    )
