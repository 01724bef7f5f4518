"""Attention Boosted Deep Networks for Video Classification (You & Korhonen, ICIP 2020).

Expected (UCF-101, VGG19, 70/30 random clips, the authors' own split): accuracy 0.958.
Cost: VGG19 features of UCF-101, about 9 GB float32; training, minutes on one GPU.
Command: python -m tfvc.train --model=attention_boosted --backbone=vgg19 --data=UCF-101
Source: the authors' published Keras 2.2.4 program (junyongyou/Attention-boosted-deep-networks-...).
"""

import dataclasses

from tfvc.recipe import Backbone, Data, Recipe, Train, unless

_LARGE_MAPS = ("resnet50", "xception")  # 100,352 values a frame: the authors' batch is 16

_QUIRKS = (
    ("data.channel_order", "bgr", "OpenCV's BGR frames go into preprocess_input, which expects RGB"),
    ("train.optimizer", "rmsprop_keras2", "RMSprop adds its epsilon outside the root, as Keras 2"),
    ("model_args.recurrent_activation", "hard_sigmoid_keras2", "LSTM gates are clip(0.2x + 0.5, 0, 1)"),
    ("train.shuffle", False, "clips are not shuffled between epochs"),
    ("train.drop_remainder", True, "the last, smaller batch is dropped, in validation too"),
    ("data.split", "random", "random 70/30 split over clips: clips of one group land on both sides"),
    ("train.report", "last", "the last epoch is reported, on the set used for validation"),
)

# Without ImageNet weights and with 118 clips: small frames, small batches. Printed by every demo run.
_DEMO = ("backbone.size=112,112", "train.batch_size=16")


def get_recipe(fidelity):
    """The authors' training, or the mended one."""
    common = Recipe(
        model="attention_boosted",
        fidelity=fidelity,
        data=Data(fps=1.0, interpolation="area", test_fraction=0.3),
        backbone=Backbone(name="vgg19", size=(224, 224), pooling="none"),
        train=Train(batch_size=128, epochs=60, learning_rate=1e-3),
        demo_overrides=_DEMO,
    )
    if fidelity == "original":
        return dataclasses.replace(
            common,
            data=dataclasses.replace(common.data, channel_order="bgr", split="random"),
            model_args={"recurrent_activation": "hard_sigmoid_keras2"},
            train=dataclasses.replace(
                common.train, optimizer="rmsprop_keras2", shuffle=False, drop_remainder=True, report="last"
            ),
            quirks=_QUIRKS,
        )
    return dataclasses.replace(
        common,
        data=dataclasses.replace(common.data, channel_order="rgb", split="official", validation_fraction=0.2),
        train=dataclasses.replace(common.train, optimizer="rmsprop", report="best"),
    )


def resolve(recipe, given):
    """Settles the batch by backbone; the 3-D network reads raw frames and has neither gates nor backbone."""
    if recipe.model_args.get("mode") == "cnn3d":
        size = recipe.backbone.size if "backbone.size" in given else (60, 40)
        frames = {"name": "frames", "weights": "none", "size": size, "standardize": "no"}
        recipe = unless(given, recipe, "backbone", **frames)
        recipe = unless(given, recipe, "data", channel_order="rgb")
        if "model_args.recurrent_activation" not in given:
            args = {k: v for k, v in recipe.model_args.items() if k != "recurrent_activation"}
            recipe = dataclasses.replace(recipe, model_args=args)
    if recipe.backbone.name in _LARGE_MAPS:
        recipe = unless(given, recipe, "train", batch_size=16)
    return recipe
