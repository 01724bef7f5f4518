"""Golden checks of training steps; see test_golden.py."""

import re

import keras
import numpy as np
import tensorflow as tf
from golden import read

from starter import losses, models, tf1, trainer
from tfvc.layers import SampleFrames
from tfvc.optimizers import StaircaseDecay
from tfvc.recipe import Feature

ATOL, ATOL_AFTER = 1e-5, 2e-5  # LOADER.md
FROM_ROUNDING = "tower/input_bn/beta"  # its gradient is 0 in theory; Adam makes steps of the rounding
ATOL_OF = {"tower/cluster_bn/moving_mean": 1e-4}


class _Draws:
    """The file's draws in place of the sampler's own: one row of them a step."""

    def __init__(self, network, draws):
        self._draws = tf.constant(draws)
        self._step = tf.Variable(0, trainable=False)
        for layer in network.layers:
            if isinstance(layer, SampleFrames):
                layer.draw = self._draw

    def _draw(self, batch):
        return self._draws[self._step.assign_add(1) - 1]


def trainsteps(path, tmp_path):
    golden, meta = read(path)
    prefix = write_tf1(tmp_path / "model.ckpt-0", weights(golden))
    model = build(golden, meta)
    step, _ = tf1.load(prefix, model.network, model.optimizer)
    assert step == 0
    if golden["uniform_draws"].size:
        _Draws(model.network, golden["uniform_draws"])
    seen = []
    for k, (inputs, labels) in enumerate(zip(batches(golden), golden["y"], strict=True), 1):
        model.fit(tf.data.Dataset.from_tensors((inputs, labels)), verbose=0, shuffle=False)
        np.testing.assert_allclose(model.seen.predictions, golden["predictions"][k - 1], atol=ATOL, rtol=0)
        np.testing.assert_allclose(model.seen.loss, golden["label_losses"][k - 1], atol=ATOL, rtol=0)
        seen += compare(model.network, golden, f"after{k}/")
    assert len(seen) == 2 * sum(name.startswith("w/") for name in golden)
    assert int(model.optimizer.iterations) == int(golden["global_step"]) == meta["steps"]


def weights(golden):
    """Name in TensorFlow 1 -> array, of a golden file."""
    return {name.removeprefix("w/"): value for name, value in golden.items() if name.startswith("w/")}


def write_tf1(prefix, arrays, step=0):
    """Writes a checkpoint of TensorFlow 1, as its own Saver does."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        v1 = tf.compat.v1
        for name, value in arrays.items():
            v1.get_variable(name, initializer=value, use_resource=False)
        v1.get_variable("global_step", initializer=np.int64(step), use_resource=False)
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, str(prefix), write_meta_graph=False)
    return str(prefix)


def build(golden, meta):
    """The trainer of a file."""
    keras.utils.clear_session()
    size, dbof = golden["x"].shape[-1], meta["dbof"]
    row = Feature("x", golden["x"].shape[2:], "float32")
    network = models.build_model(
        meta["model"],
        [row],
        meta["classes"],
        {
            "iterations": meta["iterations"],
            "sample_random_frames": dbof["random_frames"],
            "dbof_add_batch_norm": dbof["bn"],
            "dbof_pooling_method": dbof["pool"],
            "dbof_activation": dbof["act"],
            "dbof_cluster_size": meta["cluster_size"],
            "dbof_hidden_size": meta["hidden_size"],
            "lstm_cells": meta["lstm_cells"],
            "lstm_layers": meta["lstm_layers"],
            "moe_num_mixtures": meta["moe_mixtures"],
        },
    )
    assert size == row.shape[-1]
    model = trainer.Trainer(
        network, losses.find(meta["loss"]), meta["regularization_penalty"], meta["clip_gradient_norm"]
    )
    rate = StaircaseDecay(
        meta["base_learning_rate"],
        meta["learning_rate_decay"],
        meta["learning_rate_decay_examples"],
        meta["batch"],
    )
    model.compile(trainer.optimizer(meta["optimizer"], rate), jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    return model


def batches(golden):
    """The inputs of each step."""
    for x, frames in zip(golden["x"], golden["num_frames"], strict=True):
        yield {"x": x, "x_length": frames.astype("int32")} if x.ndim == 3 else {"x": x}


def compare(network, golden, stage):
    """Holds our variables against `after<k>/...`, where the file has them; names what it compared."""
    ours = {tf1_name(v.path): np.asarray(v) for v in network.variables}
    wanted = {name.removeprefix(stage): v for name, v in golden.items() if name.startswith(stage)}
    for name, value in wanted.items():
        if name != FROM_ROUNDING:
            atol = ATOL_OF.get(name, ATOL_AFTER)
            np.testing.assert_allclose(ours[name], value, atol=atol, rtol=0, err_msg=stage + name)
    return list(wanted)


def tf1_name(path):
    path = re.sub("^(dbof|moe)/", "", path)
    return f"tower/{re.sub('/kernel$', '/weights', re.sub('/bias$', '/biases', path))}"


CHECKS = {"yt8m_trainsteps_": trainsteps}
