"""`MixtureOfExperts` against the equation, class by class."""

import keras
import numpy as np
import oracles
import pytest

from tfvc.layers import MixtureOfExperts

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 5)).astype("float32")


def built(**arguments):
    """A layer of 4 classes with drawn weights, and these by the original's names."""
    layer = MixtureOfExperts(4, **arguments)
    layer.build((None, 5))
    names = {}
    for weight in layer.weights:
        drawn = RNG.normal(size=weight.shape)
        weight.assign(np.abs(drawn) + 0.5 if weight.name == "moving_variance" else drawn)
        name = (
            weight.path.removeprefix(f"{layer.path}/").replace("kernel", "weights").replace("bias", "biases")
        )
        names[name] = np.asarray(weight).astype("float64")
    return layer, names


@pytest.mark.parametrize("mixtures", (1, 2, 3))
@pytest.mark.parametrize("prob_gating", (False, True))
def test_probabilities_are_the_equations(mixtures, prob_gating):
    layer, weights = built(num_mixtures=mixtures, prob_gating=prob_gating)
    assert ("gating_prob_weights" in weights) == prob_gating
    np.testing.assert_allclose(layer(X), oracles.moe(X.astype("float64"), weights), atol=1e-6)


def test_the_dummy_is_the_last_gate():
    layer, _ = built()
    gates = np.full((5, 4, 3), 0.0)
    gates[..., 2] = 100 * np.sign(X[:1].T)  # x is scaled so that every feature says: dummy
    layer.gates.kernel.assign(gates.reshape(5, 12))
    assert np.asarray(layer(X[:1])).max() < 1e-6


def test_large_gates_stay_finite():
    layer, _ = built()
    p = np.asarray(layer(X * 1e5))
    assert np.isfinite(p).all() and (p >= 0).all() and (p <= 1).all()


def test_the_penalty_is_slims_and_leaves_the_biases_out():
    layer, weights = built(l2=1e-3)
    layer(X)
    squares = sum((weights[f"{name}/weights"] ** 2).sum() for name in ("gates", "experts"))
    assert float(sum(layer.losses)) == pytest.approx(1e-3 * squares / 2, rel=1e-5)


def test_the_products_may_be_half_while_the_probabilities_are_whole():
    layer, weights = built(dtype="float32", product_dtype="bfloat16")
    y = np.asarray(layer(X))
    assert y.dtype == "float32" and layer.gates.compute_dtype == "bfloat16"
    wanted = oracles.moe(X.astype("float64"), weights)
    assert 1e-6 < np.abs(y - wanted).max() < 0.05
    assert (keras.ops.cast(keras.ops.cast(y, "bfloat16"), "float32") != y).numpy().any()


def test_gated_probabilities_move_statistics_in_training_only():
    layer, _ = built(prob_gating=True)
    before = np.asarray(layer.gating_prob_bn.moving_mean)
    layer(X)
    np.testing.assert_array_equal(layer.gating_prob_bn.moving_mean, before)
    layer(X, training=True)
    assert (np.asarray(layer.gating_prob_bn.moving_mean) != before).all()


@pytest.mark.parametrize("arguments", ((0, 2), (3, 0)))
def test_sizes_below_1_are_refused(arguments):
    with pytest.raises(ValueError, match="expected at least 1 of each"):
        MixtureOfExperts(*arguments)
