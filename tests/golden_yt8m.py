"""Golden checks of the starter's models and their layers; see test_golden.py."""

import keras
import numpy as np
from golden import read
from keras import ops

from starter import frame_level_models, models
from tfvc.layers import Dequantize, SampleFrames
from tfvc.losses import CrossEntropyLoss

_LEAVES = {"kernel": "weights", "bias": "biases"}  # Keras' names of a Dense, tf.slim's


def close(ours, golden, what, atol=1e-6, rtol=0.0):
    assert np.shape(ours) == np.shape(golden), f"{what}: {np.shape(ours)}, the file has {np.shape(golden)}"
    np.testing.assert_allclose(ours, golden, atol=atol, rtol=rtol, err_msg=what)


def dequantize(path, tmp_path):
    golden, _ = read(path)
    close(
        Dequantize()(golden["bytes"].astype("uint8")[None, :, None])[0, :, 0],
        golden["default_2_m2"],
        path.name,
    )


def sampling(path, tmp_path):
    golden, meta = read(path)
    for kind in ("frames", "sequence"):
        layer = SampleFrames(meta["num_samples"], random_frames=kind == "frames")
        index = np.asarray(layer(golden["num_frames"], draws=golden[f"{kind}_draws"]))
        wanted = golden[f"{kind}_index"]
        if f"{kind}_error" in golden or (wanted < 0).any():  # the original fails at 0 frames; ours: frame 0
            wanted = np.maximum(wanted, 0)
        np.testing.assert_array_equal(index, wanted, err_msg=kind)


def video_level(path, tmp_path):
    golden, meta = read(path)
    flags = {"moe_num_mixtures": meta["num_mixtures"]} if meta["num_mixtures"] else {}
    model = build(path, golden, meta["classes"], {**flags, "l2_penalty": meta["l2_penalty"]})
    out = model(golden["x"])
    close(out, golden["out"], "out")
    close(CrossEntropyLoss()(golden["y"], out), golden["xent_loss"], "xent_loss", 1e-5)
    close(sum(model.losses), golden["regularization_loss"], "regularization_loss", 0, 1e-4)


def frame_level_logistic(path, tmp_path):
    golden, _ = read(path)
    model = build(path, golden, golden["out"].shape[1])
    out, real = np.asarray(model([golden["x"], golden["num_frames"]])), golden["num_frames"] > 0
    close(out[real], golden["out"][real], "out")
    assert np.isfinite(out).all() and np.isnan(golden["out"][~real]).all()
    close(sum(model.losses), golden["regularization_loss"], "regularization_loss", 0, 1e-4)


def dbof(path, tmp_path):
    golden, meta = read(path)
    model = build(path, golden, meta["classes"], dbof_flags(meta))
    draw(model, golden["uniform_draws"])
    bag, classifier, seen = model.get_layer("dbof"), model.layers[-1], []
    bag._product = lambda x, weights: seen.append(ops.matmul(x, weights)) or seen[-1]
    whole = keras.Model(model.inputs, [bag.input, classifier.input, model.output])
    seen.clear()  # building the model calls the layers too
    for kind, training in (("inf", False), ("train", True)):
        frames, state, out = whole([golden["x"], golden["num_frames"]], training=training)
        close(frames, golden["sampled_frames"], "sampled_frames")
        close(out, golden[f"{kind}_out"], f"{kind}_out", 5e-6)
        loss = CrossEntropyLoss()(golden["y"], out)
        close(loss, golden[f"{kind}_xent_loss"], f"{kind}_xent_loss", 1e-5)
        clusters, hidden = seen[-2:]
        products = [_original_product(clusters, golden), hidden, *_classifier_products(classifier, state)]
        wanted = [name for name in golden if name.startswith(f"{kind}_mid/")]
        assert len(products) == len(wanted)
        for i, product in enumerate(products):
            close(product, golden[f"{kind}_mid/matmul{i}"], f"{kind}_mid/matmul{i}", 1e-5)
    close(sum(model.losses), golden["regularization_loss"], "regularization_loss", 0, 1e-4)
    weights = named(model)
    after = [name for name in golden if name.startswith("after/")]
    assert bool(after) == meta["batch_norm"]
    for name in after:
        close(weights[name.removeprefix("after/")], golden[name], name)


def lstm(path, tmp_path):
    golden, meta = read(path)
    flags = {"lstm_cells": meta["cells"], "lstm_layers": meta["layers"]}
    flags["video_level_classifier_model"] = meta["classifier"]
    model = build(path, golden, meta["classes"], flags)
    inputs = [golden["x"], golden["num_frames"]]
    classifier = model.layers[-1]
    close(keras.Model(model.inputs, classifier.input)(inputs), golden["last_layer_h"], "last_layer_h", 1e-5)
    close(model(inputs), golden["out"], "out", 1e-5)


def build(path, golden, classes, flags=None):
    """The model that a file is of, called as the original calls it, with the weights of the file."""
    x = keras.Input(golden["x"].shape[1:])
    number = keras.Input((), dtype="int32") if "num_frames" in golden else None
    more = {} if number is None else {"num_frames": number}
    cls = models.find(path.name.split("_")[1])
    out = cls().create_model(x, vocab_size=classes, **more, **(flags or {}))["predictions"]
    model = keras.Model(x if number is None else [x, number], out)
    put(model, golden)
    return model


def put(model, golden, prefix="w/"):
    """Gives a model the weights of a file; each must have its place, and each weight its value."""
    weights, cells = named(model), {}
    for name in (n.removeprefix(prefix) for n in golden if n.startswith(prefix)):
        value = golden[prefix + name]
        if "basic_lstm_cell" in name:
            cells.setdefault(name.split("/")[-3], {})[name.split("/")[-1]] = value
        else:
            weights.pop(name).assign(value)
    for cell, values in cells.items():
        model.get_layer(cell).set_weights(frame_level_models.lstm_weights(values["kernel"], values["bias"]))
    left = [name for name in weights if "lstm_cell" not in name]
    assert not left, f"the file has no value for {left}"


def named(model):
    """The model's weights by the original's names, the scope left out."""
    found = {}
    for weight in model.weights:
        *scope, leaf = weight.path.split("/")
        scope = scope[scope[0] in ("dbof", "moe") :]
        found["/".join([*scope, _LEAVES.get(leaf, leaf)])] = weight
    return found


def draw(model, draws):
    """Makes the model's sampler use these draws, in training and else."""
    sampler = next(part for part in model.layers if isinstance(part, SampleFrames))
    sampler.draw, sampler.spread = lambda batch: draws, lambda: draws


def dbof_flags(meta):
    """Flags of DbofModel from the meta of its file."""
    return {
        "iterations": meta["iterations"],
        "sample_random_frames": meta["sample_random_frames"],
        "dbof_add_batch_norm": meta["batch_norm"],
        "dbof_cluster_size": meta["cluster_size"],
        "dbof_hidden_size": meta["hidden_size"],
        "dbof_pooling_method": meta["pooling"],
        "dbof_activation": meta["activation"],
        "video_level_classifier_model": meta["classifier"],
        "moe_num_mixtures": meta["moe_mixtures"],
    }


def _original_product(ours, golden):
    """The original's cluster product. Ours lacks the input's beta, and a column has the sign of its gamma."""
    product = ops.reshape(ours, (-1, ours.shape[-1]))
    if "w/input_bn/beta" not in golden:
        return product
    sign = np.where(golden["w/cluster_bn/gamma"] < 0, -1, 1)
    return product * sign + golden["w/input_bn/beta"] @ golden["w/cluster_weights"]


def _classifier_products(classifier, state):
    """Without biases: gates and experts, or the logistic layer."""
    if classifier.name == "moe":
        return [classifier.gates(state), classifier.experts(state) - classifier.experts.bias]
    return [ops.matmul(state, classifier.kernel)]


CHECKS = {
    "yt8m_dequantize": dequantize,
    "yt8m_sampling_": sampling,
    "yt8m_LogisticModel_": video_level,
    "yt8m_MoeModel_": video_level,
    "yt8m_FrameLevelLogisticModel_": frame_level_logistic,
    "yt8m_DbofModel_": dbof,
    "yt8m_LstmModel_": lstm,
}
