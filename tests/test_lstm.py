"""`MaskedLSTM` against the equation and, gradients too, against Keras' layer."""

import numpy as np
import oracles
import pytest
import tensorflow as tf

from tfvc.layers import MaskedLSTM

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 7, 5)).astype("float32")
MASK = np.arange(7) < np.array([[7], [3], [1], [0]])


def built(*arguments):
    layer = MaskedLSTM(3, *arguments)
    layer.build((None, 7, 5))
    for weight in layer.weights:
        weight.assign(RNG.normal(size=weight.shape))
    return layer


@pytest.mark.parametrize("sequences", (False, True))
@pytest.mark.parametrize("mask", (None, MASK), ids=("whole", "masked"))
def test_states_are_the_equations_and_zeros_without_a_frame(sequences, mask):
    layer = built(sequences)
    weights = [w.astype("float64") for w in layer.get_weights()]
    states = oracles.lstm(X.astype("float64"), *weights, oracles.sigmoid)
    real = np.ones((4, 7), bool) if mask is None else mask
    frames = real.sum(axis=1)
    last = np.stack([states[i, n - 1] if n else np.zeros(3) for i, n in enumerate(frames)])
    wanted = states * real[..., None] if sequences else last
    junk = np.where(real[..., None], X, 1e4)
    np.testing.assert_allclose(layer(junk, mask=mask), wanted, atol=1e-5)


@pytest.mark.parametrize("sequences", (False, True))
@pytest.mark.parametrize("mask", (None, MASK), ids=("whole", "masked"))
def test_values_and_gradients_are_those_of_keras_layer(sequences, mask):
    """Both ways through the layer, whatever this machine would take."""
    layer, x = built(sequences), tf.constant(X)
    real = np.ones((4, 7), bool) if mask is None else mask
    direction = RNG.normal(size=(4, 7, 3) if sequences else (4, 3)).astype("float32")
    direction *= (real if sequences else real.any(axis=1))[..., None]
    found = []
    for way in (lambda: layer._loop(x, mask), lambda: layer._keras(x, mask, True)):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = way() * direction
        found.append([y, *tape.gradient(y, [x, *(w.value for w in layer.weights)])])
    for ours, keras in zip(*found, strict=True):
        np.testing.assert_allclose(ours, keras, atol=2e-6)


def test_any_number_of_frames_and_compilation_give_the_same():
    layer = built()
    spec = [tf.TensorSpec((None, None, 5), "float32"), tf.TensorSpec((None, None), "bool")]
    eager = layer(X, mask=MASK)
    np.testing.assert_allclose(tf.function(lambda x, m: layer(x, mask=m), spec)(X, MASK), eager, atol=1e-6)
    compiled = tf.function(lambda x: layer(x, mask=MASK), jit_compile=True)
    np.testing.assert_allclose(compiled(X), eager, atol=1e-6)


def test_its_weights_are_keras_and_start_as_keras():
    layer = MaskedLSTM(3, name="cell_0")
    layer.build((None, 7, 5))
    assert [w.path.rsplit("/", 1)[1] for w in layer.weights] == ["kernel", "recurrent_kernel", "bias"]
    assert layer.get_weights()[2].tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0]  # the forget gate's


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="units=0: expected at least 1"):
        MaskedLSTM(0)
    with pytest.raises(ValueError, match=r"input \(None, 5\); expected \(batch, frames, channels\)"):
        MaskedLSTM(3).build((None, 5))
