"""Golden checks of mafnet; see test_golden.py."""

import keras
import numpy as np
from golden import read
from keras import ops

from tfvc.models import mafnet
from tfvc.recipe import Feature

# LOADER.md
INFERENCE, TRAINING, ALPHA, AFTER, SUMS = 5e-5, 2e-4, 1e-6, 1e-5, 1e-4

# The original's variables -> ours: layer, place of its weight below it.
_KINDS = {"kernel": "kernel", "bias": "bias", "scale": "gamma", "beta": "beta"}
_KINDS |= {"pop_mean": "moving_mean", "pop_var": "moving_variance"}
_LAYERS = {
    "FILM_for_sound_fc": "audio_block/film/generator",
    "FILMed_block_sound_conv1": "audio_block/conv1",
    "FILMed_block_sound_conv2": "audio_block/conv2",
    "FILMed_block_sound_BN": "audio_block/bn",
    "time_distributed": "visual_dense",
    "time_distributed_1": "audio_dense",
    "image_BN_1": "visual_bn",
    "sound_BN_1": "audio_bn",
    "dense": "attention/hidden",
    "dense_1": "attention/logit",
    "multimodal_fc_1": "classifier",
    "multimodal_BN_1": "logits",
}


def ours_of(name):
    """Path of our weight that stands for a variable of the original."""
    layer, kind = name.removesuffix(":0").split("/")
    return f"{_LAYERS[layer]}/{_KINDS[kind]}"


def drawn(golden, meta):
    """What meta.recipe draws, by our path, checked against all that the file holds of it."""
    weights, seen = {}, set()
    for i, (name, shape) in enumerate(meta["variables"]):
        z = np.random.RandomState(meta["seed"] * 1000 + i).standard_normal(shape)
        name = name.removesuffix(":0")
        kind = name.split("/")[1]
        if kind == "kernel":
            z /= np.sqrt(np.prod(shape[:-1]))
        else:
            z = {"pop_var": np.exp(0.3 * z), "scale": 1 + 0.2 * z}.get(kind, 0.2 * z)
        weights[ours_of(name)] = z = z.astype("float32")
        if f"wsum/{name}" in golden:
            sums = [z.sum(dtype="float64"), np.abs(z).sum(dtype="float64")]
            close(sums, golden[f"wsum/{name}"], f"wsum/{name}", SUMS * np.abs(sums[1]))
            seen.add(f"wsum/{name}")
        if f"w/{name}" in golden:
            close(z, golden[f"w/{name}"], f"w/{name}", ALPHA)
            seen.add(f"w/{name}")
    assert len(seen) == len(meta["variables"]), "a variable of which the file holds nothing"
    return weights, seen


def drawn_batch(golden, meta):
    """The inputs and labels of meta.recipe, checked the same way."""
    r, rows, classes = np.random.RandomState(meta["seed"] * 1000 + 999), meta["batch"], meta["classes"]
    image = np.maximum(r.standard_normal((rows, 10, 1920)), 0).astype("float32")
    sound = np.maximum(r.standard_normal((rows, 10, 12, 8, 512)), 0).astype("float32")
    y = np.eye(classes)[r.randint(0, classes, rows)]
    close(y, golden["y"], "y", 0)
    for name, x in (("image", image), ("sound", sound)):
        total = x.sum(dtype="float64")
        np.testing.assert_allclose(golden[f"x_{name}_checksum"], total, rtol=SUMS, err_msg=name)
        head = x.reshape(rows, 10, -1)[..., : golden[f"x_{name}_head"].shape[-1]]
        close(head, golden[f"x_{name}_head"], f"x_{name}_head", ALPHA)
    seen = {"y"} | {f"x_{name}_{part}" for name in ("image", "sound") for part in ("checksum", "head")}
    return {"frames": image, "audio": sound}, y, seen


def close(ours, golden, what, atol):
    np.testing.assert_allclose(ours, golden, atol=atol, rtol=0, err_msg=what)


def weights_by_path(net):
    """Path below the model -> weight."""
    return {weight.path.removeprefix(f"{net.name}/"): weight for weight in net.weights}


def net(path, tmp_path):
    golden, meta = read(path)
    drawings, seen = drawn(golden, meta)
    inputs, labels, also = drawn_batch(golden, meta)
    seen |= also
    shapes = {name: x.shape[1:] for name, x in inputs.items()}
    model = mafnet.build_model([Feature(*row) for row in shapes.items()], meta["classes"])
    assert model.get_layer("classifier").units == meta["classes"]
    assert mafnet.build_model.__kwdefaults__["units"] == meta["n_hidden"]
    ours = weights_by_path(model)
    assert set(ours) == set(drawings)
    for name, weight in ours.items():
        weight.assign(drawings[name])
    check_updates(model, meta)

    logits = keras.Model(model.input, [model.get_layer("logits").output, *model.output.values()])
    names = ("logits", *model.output)

    def compare(training, prefix, atol):
        out = dict(zip(names, map(ops.convert_to_numpy, logits(inputs, training=training)), strict=True))
        close(out["logits"], golden[f"{prefix}logits"], f"{prefix}logits", atol)
        close(out["probabilities"], golden[f"{prefix}pred"], f"{prefix}pred", atol)
        close(out["scores"], golden[f"{prefix}alpha"][..., 0], f"{prefix}alpha", ALPHA)
        seen.update(f"{prefix}{name}" for name in ("logits", "pred", "alpha", "loss"))
        loss = ops.mean(keras.losses.categorical_crossentropy(labels, out["probabilities"]))
        close(loss, golden[f"{prefix}loss"], f"{prefix}loss", atol)
        return out["probabilities"]

    pred = compare(False, "", INFERENCE)
    close((pred.argmax(-1) == labels.argmax(-1)).mean(), golden["acc"], "acc", ALPHA)
    seen.add("acc")
    compare(True, "train_", TRAINING)
    after = [name for name in golden if name.startswith("after/")]
    assert len(after) == sum("pop_" in name for name, _ in meta["variables"])
    for name in after:
        close(ours[ours_of(name.removeprefix("after/"))], golden[name], name, AFTER)
    seen |= set(after)
    assert seen == set(golden), f"not checked: {sorted(set(golden) - seen)}"


def check_updates(model, meta):
    """The weights that each kind of step moves: all but those of the layers that `PATHS` names."""
    moved = {weight.path.removeprefix(f"{model.name}/") for weight in model.trainable_weights}
    still = {
        path: {name for name in moved if name.split("/")[0] in names}
        for path, names in mafnet.PATHS["published"].items()
    }
    for kind, left_out in (("all", set()), ("sound", still["visual"]), ("image", still["audio"])):
        assert moved - left_out == {ours_of(name) for name in meta[f"train_step_{kind}_updates"]}, kind
    assert moved == {ours_of(name) for name in meta["trainable"]}


CHECKS = {"mafnet_": net}
