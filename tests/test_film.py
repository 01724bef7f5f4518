"""`FiLM` and `FiLMedResidualBlock` against the equations; their batch norm in training.

Over replicas: test_batch_norm.py.
"""

import keras
import numpy as np
import oracles
import pytest
import tensorflow as tf

from tfvc.layers import FiLM, FiLMedResidualBlock

RNG = np.random.default_rng(0)
MAPS = RNG.normal(size=(3, 4, 3, 2, 5)).astype("float32")
CONDITION = RNG.normal(size=(3, 4, 6)).astype("float32")
MASK = np.arange(4) < np.array([[4], [2], [0]])


def built(layer, *inputs):
    layer.build([x.shape for x in inputs] if len(inputs) > 1 else inputs[0].shape)
    rng = np.random.default_rng(1)
    for weight in layer.weights:
        weight.assign(
            rng.uniform(0.5, 1.5, weight.shape) if "var" in weight.name else rng.normal(size=weight.shape)
        )
    return layer


def rows(x):
    """(B, T, ...) to float64 (B T, H, W, ...)."""
    return x.reshape(-1, *x.shape[2:]).astype("float64")


def wanted(layer, maps, condition, **more):
    """Before the FiLM, after it, output: the oracle's, of the shape of the maps."""
    w = {"/".join(w.path.split("/")[-2:]): w.numpy().astype("float64") for w in layer.weights}
    maps, shape = rows(maps), maps.shape[:-1]
    found = oracles.filmed_block(maps, None if condition is None else rows(condition), w, **more)
    return [f.reshape(*shape, -1) for f in found]


def test_film_scales_and_shifts_each_channel():
    layer = built(FiLM(), MAPS, CONDITION)
    kernel, bias = (w.astype("float64") for w in layer.get_weights())
    expected = oracles.film(rows(MAPS), rows(CONDITION), kernel, bias).reshape(MAPS.shape)
    np.testing.assert_allclose(layer([MAPS, CONDITION]), expected, atol=1e-5)
    vectors = layer([MAPS[:, 0, 0, 0], CONDITION[:, 0]])
    np.testing.assert_allclose(vectors, expected[:, 0, 0, 0], atol=1e-5)


def test_film_of_zeros_changes_nothing():
    layer = built(FiLM(), MAPS, CONDITION)
    layer.generator.set_weights([np.zeros((6, 10)), np.zeros(10)])
    np.testing.assert_array_equal(layer([MAPS, CONDITION]), MAPS)


@pytest.mark.parametrize("training", (False, True), ids=("inference", "training"))
@pytest.mark.parametrize("mask", (None, MASK), ids=("whole", "masked"))
@pytest.mark.parametrize("film", (True, False), ids=("film", "plain"))
def test_the_block_is_the_equation(film, mask, training):
    condition = CONDITION if film else None
    inputs = [MAPS, CONDITION] if film else MAPS
    layer = built(FiLMedResidualBlock(4, film), *(inputs if film else [MAPS]))
    expected = wanted(layer, MAPS, condition, training=training, mask=None if mask is None else mask.ravel())
    y = layer(inputs, mask=mask, training=training)
    np.testing.assert_allclose(y, expected[2], atol=2e-4)
    if film and not training:
        parts = layer(inputs, mask=mask, return_film=True)
        for ours, theirs in zip(parts, (expected[2], *expected[:2]), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=2e-4)


def test_vectors_are_maps_of_one_place():
    vectors = MAPS[:, :, 0, 0]
    layer = built(FiLMedResidualBlock(4), vectors, CONDITION)
    expected = wanted(layer, vectors[:, :, None, None], CONDITION)[2][:, :, 0, 0]
    np.testing.assert_allclose(layer([vectors, CONDITION]), expected, atol=1e-4)


def test_momentum_and_epsilon_are_the_batch_norms_and_its_variance_is_biased():
    block = built(FiLMedResidualBlock(4, False, momentum=0.75, epsilon=0.5), MAPS)
    same = built(FiLMedResidualBlock(4, False, momentum=0.75), MAPS)
    assert np.abs(block(MAPS) - same(MAPS)).max() > 1e-2
    before = block.bn.moving_mean.numpy(), block.bn.moving_variance.numpy()
    r = oracles.relu(rows(MAPS) @ block.conv1.kernel.numpy()[0, 0] + block.conv1.bias.numpy())
    y = block.conv2(r.astype("float32")).numpy().reshape(-1, 4)
    block(MAPS, training=True)
    for moving, old, batch in zip(
        (block.bn.moving_mean, block.bn.moving_variance), before, (y.mean(axis=0), y.var(axis=0)), strict=True
    ):
        np.testing.assert_allclose(moving, 0.75 * old + 0.25 * batch, rtol=1e-4)


def test_masked_rows_count_for_nothing_and_stay_out_of_the_gradients():
    outputs = []
    for junk in (0.0, np.nan):
        layer = built(FiLMedResidualBlock(4), MAPS, CONDITION)
        maps = np.where(MASK[..., None, None, None], MAPS, junk)
        condition = np.where(MASK[..., None], CONDITION, junk)
        with tf.GradientTape() as tape:
            y = layer([maps, condition], mask=MASK, training=True)
            loss = tf.reduce_sum(tf.square(y))
        gradients = tape.gradient(loss, [w.value for w in layer.trainable_weights])
        outputs.append([y, *gradients, *layer.non_trainable_weights])
    for clean, dirty in zip(*outputs, strict=True):
        assert np.isfinite(clean).all()
        np.testing.assert_array_equal(clean, dirty)
    assert not np.any(np.asarray(y)[~MASK])


def test_each_input_may_have_its_own_mask():
    layer = built(FiLMedResidualBlock(4), MAPS, CONDITION)
    full = np.ones_like(MASK)
    hidden = np.where(MASK[..., None], CONDITION, 0)
    expected = layer([MAPS, hidden])
    np.testing.assert_allclose(layer([MAPS, CONDITION], mask=[full, MASK]), expected, atol=1e-5)
    np.testing.assert_allclose(layer([MAPS, CONDITION], mask=[None, MASK]), expected, atol=1e-5)


def test_a_model_of_the_parts_around_film():
    maps, condition = keras.Input((None, 3, 2, 5)), keras.Input((None, 6))
    layer = FiLMedResidualBlock(4, dtype="mixed_bfloat16")
    parts = layer([maps, condition], return_film=True)
    model = keras.Model([maps, condition], parts)
    for symbol, value in zip(parts, model([MAPS, CONDITION]), strict=True):
        assert symbol.shape == (None, None, 3, 2, 4) and value.shape == (3, 4, 3, 2, 4)
        assert symbol.dtype == value.dtype.name == "bfloat16"


def test_they_name_what_they_refuse():
    with pytest.raises(ValueError, match=r"expected \[x \(batch"):
        FiLM().build((None, 5))
    with pytest.raises(ValueError, match="of no higher rank"):
        FiLM().build([(None, 5), (None, 4, 6)])
    with pytest.raises(ValueError, match="filters=0"):
        FiLMedResidualBlock(0)
    with pytest.raises(ValueError, match="film=False takes maps alone"):
        FiLMedResidualBlock(4).build(MAPS.shape)
    with pytest.raises(ValueError, match=r"condition \(None, 6\); expected \(batch, T, D\)"):
        FiLMedResidualBlock(4).build([MAPS.shape, (None, 6)])
    for shape in ([MAPS.shape, CONDITION.shape], (None, 4, 3, 5), (None, 4, None, 2, 5)):
        with pytest.raises(ValueError, match="known but for batch and T"):
            FiLMedResidualBlock(4, film=False).build(shape)
    with pytest.raises(ValueError, match="expected film=True"):
        FiLMedResidualBlock(4, film=False)(MAPS, return_film=True)
