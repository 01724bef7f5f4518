"""What the recipes of raf and resbilstm share: sight, sound and text of disaster videos."""

from tfvc.recipe import Audio, Backbone, Data, Recipe, SecondStage, Text, Train

# 154 drawn clips, no published weights: small frames, few of them, words learnt. Printed by every demo run.
DEMO = (
    "data.demo_form=disaster",
    "data.frames=12",
    "backbone.size=96,96",
    "text.embedding=learned",
    "train.batch_size=16",
    "train.epochs=30",
)


def base(model, fidelity, **second_stage):
    """The common features, split and training; `corrected` is refused, for nothing differs."""
    if fidelity == "corrected":
        raise ValueError(
            f"fidelity 'corrected' of {model}: nothing differs, for no program was published; "
            "leave --fidelity out"
        )
    return Recipe(
        model=model,
        fidelity=fidelity,
        data=Data(
            sampling="even", frames=40, split="stratified", test_fraction=0.2, validation_fraction=0.25
        ),
        backbone=Backbone(name="inception_v3", size=(299, 299), pooling="avg"),
        audio=Audio(name="soundnet", weights="flickr", output="conv7"),
        text=Text(embedding="glove"),
        train=Train(
            batch_size=32,
            epochs=100,
            optimizer="adam",
            learning_rate=1e-3,
            patience=10,
            monitor="loss",
            report="best",
        ),
        second_stage=SecondStage(name="svm", **second_stage),
        demo_overrides=DEMO,
    )
