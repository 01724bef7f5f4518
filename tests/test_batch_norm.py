"""SlimBatchNormalization: the equation, what is moved, masks, replicas."""

import subprocess
import sys

import keras
import numpy as np
import oracles
import pytest
import tensorflow as tf
from conftest import ROOT
from keras import ops

from tfvc.layers import SlimBatchNormalization

RNG = np.random.default_rng(0)
X = RNG.normal(2.0, 3.0, (4, 5, 6)).astype("float32")
MASK = np.arange(5) < np.array([[5], [3], [1], [0]])


def built(**arguments):
    """Built for X, with weights that differ from their initial values, and those weights by name."""
    layer = SlimBatchNormalization(**arguments)
    layer.build(X.shape)
    for weight in layer.weights:
        weight.assign(RNG.uniform(0.5, 1.5, weight.shape))
    return layer, {w.name: w.numpy().astype("float64") for w in layer.weights}


@pytest.mark.parametrize("mask", [None, MASK], ids=["no mask", "mask"])
@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
def test_it_is_the_equation_and_moves_the_unbiased_variance(mask, training):
    layer, w = built(momentum=0.9, epsilon=1e-2)
    moving = () if training else (w["moving_mean"], w["moving_variance"])
    y, (mean, variance) = oracles.batch_norm(
        X.astype("float64"), w["gamma"], w["beta"], *moving, epsilon=1e-2, mask=mask
    )
    np.testing.assert_allclose(layer(X, mask=mask, training=training), y, atol=1e-5)
    for name, value in (("moving_mean", mean), ("moving_variance", variance)):
        expected = 0.9 * w[name] + 0.1 * value if training else w[name]
        np.testing.assert_allclose(getattr(layer, name), expected, atol=1e-6, err_msg=name)


def test_the_biased_variance_is_keras():
    ours, _ = built(unbiased=False, momentum=0.9)
    theirs = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-3)
    theirs.build(X.shape)
    theirs.set_weights(ours.get_weights())
    for training in (True, False):
        np.testing.assert_allclose(ours(X, training=training), theirs(X, training=training), atol=1e-5)
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_a_mask_counts_as_if_the_rows_were_not_there():
    masked, _ = built()
    plain, _ = built()
    plain.set_weights(masked.get_weights())
    junk = np.where(MASK[..., None], X, np.float32(np.nan))
    with tf.GradientTape() as tape:
        ours = masked(junk, mask=MASK, training=True)
        loss = tf.reduce_sum(tf.square(ours))
    np.testing.assert_allclose(ops.convert_to_numpy(ours)[MASK], plain(X[MASK], training=True), atol=1e-6)
    assert not np.any(ours[~MASK])
    for ours, expected in zip(masked.weights, plain.weights, strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-6, err_msg=ours.name)
    for gradient in tape.gradient(loss, [w.value for w in masked.trainable_weights]):
        assert np.isfinite(gradient).all()


def test_one_row_writes_variance_zero_and_no_row_writes_nothing():
    layer, w = built(momentum=0.5)
    y = layer(X[:1, 0], training=True)
    np.testing.assert_allclose(y[0], w["beta"], atol=1e-5)
    np.testing.assert_allclose(layer.moving_mean, (w["moving_mean"] + X[0, 0]) / 2, atol=1e-6)
    np.testing.assert_allclose(layer.moving_variance, w["moving_variance"] / 2, atol=1e-6)
    before = layer.get_weights()
    assert not np.any(layer(X, mask=np.zeros_like(MASK), training=True))
    for old, new in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_layer_that_is_not_trainable_uses_and_keeps_the_moving_statistics():
    layer, _ = built()
    before, expected = layer.get_weights(), layer(X)
    layer.trainable = False
    np.testing.assert_array_equal(layer(X, training=True), expected)
    for old, new in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_the_switches_take_their_weight_away():
    assert [w.name for w in built()[0].weights] == ["gamma", "beta", "moving_mean", "moving_variance"]
    assert [w.name for w in built(scale=False)[0].trainable_weights] == ["beta"]
    assert [w.name for w in built(center=False)[0].trainable_weights] == ["gamma"]


def test_the_statistics_of_half_precision_are_float32():
    layer = SlimBatchNormalization(momentum=0.0, dtype="mixed_float16")
    x = np.array([[1000.0], [1001.0], [70000.0]], "float32")  # 70000 is above what float16 holds
    assert layer(x, training=True).dtype == "float16"
    np.testing.assert_allclose(layer.moving_mean, [x.mean()], rtol=1e-6)
    np.testing.assert_allclose(layer.moving_variance, [x.var(ddof=1)], rtol=1e-5)


_TWO_REPLICAS = """
from tfvc import start
start.spare()
import keras, numpy as np, tensorflow as tf
import tfvc.strategy
from tfvc.layers import FiLMedResidualBlock, SlimBatchNormalization
strategy = tfvc.strategy.scope("cpu:2")
with strategy.scope():
    layer = SlimBatchNormalization(momentum=0.5)
    layer.build((None, 1))
x = strategy.experimental_distribute_values_from_function(
    lambda context: tf.constant([[[1.0], [3.0]], [[5.0], [15.0]]][context.replica_id_in_sync_group])
)
y = strategy.run(tf.function(lambda x: layer(x, training=True)), (x,))
print([np.round(v, 2).ravel().tolist() for v in strategy.experimental_local_results(y)])
print([w.numpy().tolist() for w in layer.non_trainable_weights])

with strategy.scope():
    inputs = [keras.Input((4, 3, 2, 5)), keras.Input((4, 6))]
    block = FiLMedResidualBlock(4, momentum=0.5, name="block")
    model = keras.Model(inputs, keras.layers.Dense(1)(keras.ops.mean(block(inputs), axis=(1, 2, 3))))
    model.compile("sgd", "mse")
rng = np.random.default_rng(0)
x = [rng.normal(size=(8, 4, 3, 2, 5)), rng.normal(size=(8, 4, 6))]
model.fit(x, np.ones((8, 1)), batch_size=8, verbose=0)
for w in block.bn.non_trainable_weights:
    mine, other = [v.numpy() for v in strategy.experimental_local_results(w.value)]
    print(w.name, np.array_equal(mine, other), bool(np.any(mine != (0.0 if "mean" in w.name else 1.0))))
"""


@pytest.fixture(scope="module")
def replicas():
    """What two of them print, in a process of their own: TensorFlow splits the CPU in two only before it
    first uses it."""
    result = subprocess.run([sys.executable, "-c", _TWO_REPLICAS], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def test_replicas_normalise_by_their_own_rows_and_the_moving_statistics_are_their_mean(replicas):
    # Means 2 and 10, unbiased variances 2 and 50; before, 0 and 1.
    assert replicas[:2] == ["[[-1.0, 1.0], [-1.0, 1.0]]", "[[3.0], [13.5]]"]


def test_replicas_train_a_filmed_block_and_share_its_statistics(replicas):
    assert replicas[2:] == ["moving_mean True True", "moving_variance True True"]


def test_it_names_what_it_refuses():
    for arguments in ({"momentum": 1.0}, {"epsilon": 0.0}):
        with pytest.raises(ValueError, match="expected a number"):
            SlimBatchNormalization(**arguments)
    with pytest.raises(ValueError, match="channels to be known"):
        SlimBatchNormalization()(keras.Input((3, None)))
    with pytest.raises(ValueError, match="without its last axis"):
        SlimBatchNormalization()(X, mask=np.ones((4, 5, 1), bool))
