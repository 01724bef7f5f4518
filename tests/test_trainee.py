"""The one training step: a batch at once or in parts, in every precision. On several devices and workers:
test_multiworker.py."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from fitted import BATCH, arrays, network

from tfvc import training
from tfvc.trainee import Trainee, summed

CLIPS = BATCH - 1  # an even number


def trained(parts, rule=None, policy="float32", steps=3, data=None, poison=None):
    """Weights and logs after some steps on one batch of inputs, labels and sample weights."""
    training.start(0)
    inputs, labels = arrays(CLIPS)
    inputs = inputs.copy()
    if poison is not None:
        inputs[poison] = np.inf
    weights = np.array([1, 2, 0, 1], "float32") if data == "weighted" else None
    with training.precision(policy):
        bare = network()
        bare.get_layer("dropout").rate = 0  # each part would draw others
        model = Trainee(bare, parts)
    rule = rule or keras.optimizers.SGD(0.5)
    model.compile(rule, "categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
    batch = ({"frames": inputs}, labels) if weights is None else ({"frames": inputs}, labels, weights)
    dataset = tf.data.Dataset.from_tensors(batch).repeat(steps)
    history = model.fit(dataset, verbose=0, shuffle=False).history
    return bare.get_weights(), {name: values[0] for name, values in history.items()}


@pytest.fixture(scope="module")
def plain():
    """Of the whole batch at once: weights and logs."""
    return trained(1)


@pytest.mark.parametrize("parts", (2, 4))
def test_parts_of_a_batch_are_the_step_of_the_whole(parts, plain):
    whole, logs = plain
    weights, found = trained(parts)
    for a, b in zip(weights, whole, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert found == pytest.approx(logs, abs=1e-6)


def test_a_weight_of_two_is_the_is_the_clip_twice_in_parts_too(plain):
    whole, _ = trained(1, data="weighted")
    weights, _ = trained(2, data="weighted")
    for a, b in zip(weights, whole, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert any(np.abs(a - b).max() > 1e-3 for a, b in zip(plain[0], whole, strict=True))


def test_the_sum_of_the_parts_is_clipped_not_each():
    rule = lambda: keras.optimizers.SGD(1.0, clipnorm=1e-3)  # noqa: E731
    whole, _ = trained(1, rule(), steps=1)
    weights, _ = trained(2, rule(), steps=1)
    training.start(0)
    for a, b, first in zip(weights, whole, network().get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-7)
        assert np.linalg.norm(b - first) <= 1.001e-3


def test_an_overflow_of_float16_in_one_part_leaves_the_weights_alone():
    inner = keras.optimizers.SGD(0.5)
    rule = keras.optimizers.LossScaleOptimizer(inner, initial_scale=2.0)
    weights, _ = trained(2, rule, "float16", steps=1, poison=CLIPS - 1)
    training.start(0)
    for a, b in zip(weights, network().get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert float(rule.dynamic_scale.numpy()) == 1.0


def test_parts_that_are_not_equal_are_refused():
    with pytest.raises(ValueError, match="evenly divisible by 3"):
        trained(3)


def test_it_survives_its_config():
    model = Trainee(network(), parts=2, sum_first=False)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(model))
    assert (again.parts, again.sum_first, again.network.name) == (2, False, "net")
    assert [w.shape for w in again.weights] == [w.shape for w in model.weights]


def test_alone_a_sum_is_the_gradient_and_a_gap_stays_one():
    gradient = tf.ones([2])
    first, second = summed([gradient, None])
    assert first is gradient and second is None


def test_an_input_that_is_left_out_is_none_in_the_step():
    class Added(keras.layers.Layer):
        def call(self, x, more=None):
            return x if more is None else x + more

    x, more = keras.Input((3,), name="x"), keras.Input((3,), name="more", optional=True)
    y = keras.layers.Dense(2, "softmax")(Added()(x, more))
    model = Trainee(keras.Model({"x": x, "more": more}, y))
    model.compile("sgd", "categorical_crossentropy", jit_compile=False)
    batches = (({"x": np.ones((4, 3), "float32"), "more": None}, np.eye(2)[[0, 1, 1, 0]]) for _ in range(3))
    assert np.isfinite(model.fit(batches, verbose=0).history["loss"]).all()
    assert model.optimizer.iterations >= 3
