"""`DBoF` against the original's own order of things: the short cuts must change no number."""

import keras
import numpy as np
import oracles
import pytest
import tensorflow as tf

from tfvc.layers import DBoF

RNG = np.random.default_rng(0)
X = RNG.normal(0.3, 1.0, size=(5, 6, 4)).astype("float32")
X[1, 3] = X[1, 1]  # a frame sampled twice
MASK = np.arange(6) < np.array([[6], [4], [1], [3], [6]])
CASES = [(p, a, n) for p in ("max", "average") for a in ("sigmoid", "relu6") for n in (True, False)]


def built(*arguments, **more):
    """A layer of 7 clusters and 3 hidden units with drawn weights, gammas of both signs."""
    layer = DBoF(7, 3, *arguments, **more)
    layer.build((None, 6, 4))
    for weight in layer.weights:
        drawn = RNG.normal(size=weight.shape)
        weight.assign(np.abs(drawn) + 0.5 if weight.name == "moving_variance" else drawn)
    return layer


def weights_of(layer):
    return {w.path.removeprefix(f"{layer.path}/"): np.asarray(w).astype("float64") for w in layer.weights}


@pytest.mark.parametrize("training", (False, True))
@pytest.mark.parametrize("mask", (None, MASK), ids=("whole", "masked"))
@pytest.mark.parametrize("pooling, activation, norm", CASES)
def test_the_output_is_the_originals(pooling, activation, norm, mask, training):
    layer = built(pooling, activation, norm)
    wanted = oracles.dbof(X.astype("float64"), weights_of(layer), pooling, activation, mask, training)
    np.testing.assert_allclose(layer(X, mask=mask, training=training), wanted, atol=2e-5)


def derived(layer, x, pooling, training=True):
    """The equation in TensorFlow, without any short cut; for its gradients."""
    w = {v.path.removeprefix(f"{layer.path}/"): v.value for v in layer.weights}

    def norm(y, name):
        mean, variance = tf.nn.moments(y, axes=list(range(y.shape.rank - 1)))
        y = (y - mean) * tf.math.rsqrt(variance + 1e-3)
        return y * w[f"{name}_bn/gamma"] + w[f"{name}_bn/beta"]

    c = tf.sigmoid(norm(tf.tensordot(norm(x, "input"), w["cluster_weights"], 1), "cluster"))
    pooled = tf.reduce_max(c, axis=1) if pooling == "max" else tf.reduce_mean(c, axis=1)
    return tf.sigmoid(norm(pooled @ w["hidden1_weights"], "hidden1"))


@pytest.mark.parametrize("pooling", ("max", "average"))
def test_gradients_are_those_of_the_equation(pooling):
    layer, x = built(pooling), tf.constant(X)
    direction = RNG.normal(size=(5, 3)).astype("float32")
    values = [v.value for v in layer.trainable_weights]
    found = []
    for function in (lambda: layer(x, training=True), lambda: derived(layer, x, pooling)):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(function() * direction)
        found.append(tape.gradient(loss, [x, *values]))
    for name, ours, wanted in zip(
        ["inputs", *(v.path for v in layer.trainable_weights)], *found, strict=True
    ):
        np.testing.assert_allclose(ours, wanted, atol=2e-5, err_msg=name)


def test_gradients_under_a_mask_are_those_of_the_shorter_clips():
    layer, direction = built("max", "sigmoid", False), RNG.normal(size=(3,)).astype("float32")
    values = [v.value for v in layer.trainable_weights]

    def gradients(x, mask=None):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x, mask=mask) * direction)
        return tape.gradient(loss, values)

    junk = np.where(MASK[..., None], X, 1e3)
    parts = [gradients(X[i : i + 1, :n]) for i, n in enumerate(MASK.sum(axis=1))]
    for whole, *each in zip(gradients(junk, MASK), *parts, strict=True):
        np.testing.assert_allclose(whole, sum(each), atol=1e-5)


@pytest.mark.parametrize("mask", (None, MASK), ids=("whole", "masked"))
def test_training_moves_the_statistics_as_slim_does(mask):
    layer, x = built(), X.astype("float64")
    w = weights_of(layer)
    rows = np.ones(X.shape[:2], bool) if mask is None else mask
    y, below = oracles.batch_norm(x, w["input_bn/gamma"], w["input_bn/beta"], mask=rows)
    _, above = oracles.batch_norm(
        y @ w["cluster_weights"], w["cluster_bn/gamma"], w["cluster_bn/beta"], mask=rows
    )
    layer(X, mask=mask, training=False)
    for name, value in weights_of(layer).items():
        np.testing.assert_array_equal(value, w[name])
    layer(X, mask=mask, training=True)
    for name, (mean, variance) in (("input_bn", below), ("cluster_bn", above)):
        for kind, seen in (("mean", mean), ("variance", variance)):
            old = w[f"{name}/moving_{kind}"]
            new = np.asarray(getattr(getattr(layer, name), f"moving_{kind}"))
            np.testing.assert_allclose(new, 0.999 * old + 0.001 * seen, atol=1e-5, err_msg=f"{name} {kind}")


def test_a_frozen_layer_keeps_its_statistics():
    layer = built()
    layer.trainable = False
    before = weights_of(layer)
    np.testing.assert_array_equal(layer(X, training=True), layer(X))
    for name, value in weights_of(layer).items():
        np.testing.assert_array_equal(value, before[name])


def test_biases_stand_where_batch_norm_is_off_and_start_as_the_originals():
    keras.utils.set_random_seed(0)
    layer = DBoF(4000, 2000, add_batch_norm=False)
    layer.build((None, 6, 25))
    spread = {w.name: float(np.std(w)) for w in layer.weights}
    wanted = {
        "cluster_weights": 0.2,
        "cluster_biases": 0.2,
        "hidden1_weights": 4000**-0.5,
        "hidden1_biases": 0.01,
    }
    assert spread == pytest.approx(wanted, rel=0.05)


def test_half_precision_trains():
    layer = DBoF(7, 3, dtype="mixed_bfloat16")
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.cast(layer(X, training=True), "float32") * RNG.normal(size=(5, 3)))
    gradients = tape.gradient(loss, [v.value for v in layer.trainable_weights])
    assert all(np.isfinite(g).all() for g in gradients) and np.abs(gradients[0]).max() > 1e-4


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((0, 3), "clusters=0, hidden_size=3: expected at least 1 of each"),
        ((3, 3, "median"), "pooling='median': expected one of average, max"),
        ((3, 3, "max", "tanh"), "activation='tanh': expected one of relu, relu6, sigmoid"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        DBoF(*arguments)


def test_an_input_without_time_is_refused():
    with pytest.raises(ValueError, match=r"input \(None, 4\); expected \(batch, frames, channels\)"):
        DBoF(3, 3).build((None, 4))


@pytest.mark.parametrize("pooling", ("max", "average"))
@pytest.mark.parametrize("norm", (True, False))
def test_without_a_hidden_layer_the_pooled_clusters_come_out(pooling, norm):
    layer = DBoF(7, None, pooling, "relu", norm)
    layer.build((None, 6, 4))
    for weight in layer.weights:
        drawn = RNG.normal(size=weight.shape)
        weight.assign(np.abs(drawn) + 0.5 if weight.name == "moving_variance" else drawn)
    assert not [w.path for w in layer.weights if "hidden1" in w.path]
    for training in (False, True):
        wanted = oracles.dbof(X.astype("float64"), weights_of(layer), pooling, "relu", MASK, training)
        assert wanted.shape == (5, 7) and wanted.max() > 0
        np.testing.assert_allclose(layer(X, mask=MASK, training=training), wanted, atol=2e-5)
    assert layer.compute_output_shape((5, 6, 4)) == (5, 7)
